"""`python -m pertexp.report`: the page of a run, or one leaderboard over many runs and sweeps."""

import sys
from pathlib import Path

from pertexp.config.cli import guarded
from pertexp.config.errors import RequestError

USAGE = """python -m pertexp.report FOLDER [FOLDER ...] [out=leaderboard.html]

  one run folder               writes its report.html again, from what lies in the folder
  a sweep folder, or a parent  one leaderboard over all runs beneath it: <folder>/report.html
  several folders              one leaderboard over all of them: leaderboard.html

Folds of one setting are pooled, seeds averaged; settings stand in one table where they were scored on the same units.
A run that cannot be read or pooled is listed with the reason. A wrong request: one sentence, exit code 2."""


@guarded
def main() -> None:
    """Run the command."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(USAGE)  # noqa: T201
        return
    print(f"page: {report(words)}")  # noqa: T201


def report(words: list[str]) -> Path:
    """Write the page that these words ask for; its path."""
    folders, out = _asked(words)
    single = len(folders) == 1 and (folders[0] / "metrics.json").is_file()
    if single and out is None:
        from pertexp.tasks.registry import write_page

        return write_page(folders[0])
    from pertexp.experiment.sweep_table import sweep_options
    from pertexp.tasks.leaderboard import summary_of

    if out is None:
        out = folders[0] / "report.html" if len(folders) == 1 else Path("leaderboard.html")
    choice, reference = sweep_options(folders[0]) if len(folders) == 1 else (None, None)
    return summary_of(folders, choice, reference).write_page(out)


def _asked(words: list[str]) -> tuple[list[Path], Path | None]:
    """Return folders, and where to write."""
    outs = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    folders = [Path(word) for word in words if not word.startswith("out=")]
    if not folders:
        raise RequestError("no folder was named: type python -m pertexp.report outputs/runs/<date>/<run>, or --help.")
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise RequestError(f"{missing[0]} is no folder: name a run folder, a sweep folder, or a parent of such.")
    if len(outs) > 1:
        raise RequestError(f"out= was given {len(outs)} times: name one file.")
    if not outs:
        return folders, None
    out = Path(outs[0])
    if out.suffix != ".html" or not out.parent.is_dir():
        raise RequestError(f"out={out} cannot be written: name an .html file in a folder that exists.")
    return folders, out


if __name__ == "__main__":
    main()
