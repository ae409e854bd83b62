"""The end of a sweep: one table of its jobs, and which of them failed."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pertexp.config.cli import WRONG_REQUEST, one_message
from pertexp.config.errors import RequestError
from pertexp.runs.jobs import SWEEP_FILE, failed_jobs, finished_jobs
from pertexp.runs.record import whole
from pertexp.runs.schema import Failure

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from pertexp.evaluation.results.choice import Choice
    from pertexp.tasks.leaderboard import Compared, Summary

SWEEP_TABLE = "sweep.csv"
COMPARISONS = "comparison.csv"


class SweepTable(Callback):
    """Hydra callback: prints and writes the table when all jobs are done, then says which of them failed.

    Parameters
    ----------
    reference
        `key=value` of the setting that all others are compared with, as in an ablation; None: none is.
    choose, over
        A validation metric, and the swept keys of which the value with the best one is chosen in each fold; None and
        empty: the best setting is chosen on the units that it is scored on, and the table says so.
    """

    def __init__(self, reference: str | None = None, choose: str | None = None, over: Sequence[str] = ()) -> None:
        self.reference = reference
        self.choose = choose
        self.over = over

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Refuse a choice that cannot be made, before any job."""
        with one_message():  # Hydra makes a warning of what a callback raises
            self.choice()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Compute the results; write sweep.csv, comparison.csv and the page; exit code 1 or 2 on failures."""
        folder = Path(OmegaConf.select(config, "hydra.sweep.dir"))
        jobs, failures = finished_jobs(folder), failed_jobs(folder)
        code: int | str | None = 0
        try:
            with one_message():
                if jobs:
                    _show(folder, self.choice(), self.reference)
        except SystemExit as leaving:
            code = leaving.code
        if failures:
            code = _say_failures(failures, len(jobs) + len(failures))
        if code:
            raise SystemExit(code)

    def choice(self) -> "Choice | None":
        """Return what is chosen on validation; RequestError where only half of it is said."""
        from pertexp.evaluation.results.choice import Choice

        over = [self.over] if isinstance(self.over, str) else list(self.over)
        if (self.choose is None) == (not over):
            return None if self.choose is None else Choice(str(self.choose), tuple(map(str, over)))
        raise RequestError(
            "hydra.callbacks.sweep_table.choose and hydra.callbacks.sweep_table.over go together: type "
            "hydra.callbacks.sweep_table.choose=val/loss 'hydra.callbacks.sweep_table.over=[optimizer.lr]'"
        )


def sweep_options(folder: Path) -> tuple["Choice | None", str | None]:
    """Return what the sweep in a folder chose on validation, and its reference; nothing where it is no sweep."""
    path = folder / SWEEP_FILE
    node = OmegaConf.select(OmegaConf.load(path), "hydra.callbacks.sweep_table") if path.is_file() else None
    if node is None:
        return None, None
    table = SweepTable(node.get("reference"), node.get("choose"), node.get("over") or ())
    return table.choice(), None if table.reference is None else str(table.reference)


def _show(folder: Path, choice: "Choice | None", reference: str | None) -> None:
    from pertexp.experiment.showing import console
    from pertexp.report.rendering import PAGE
    from pertexp.tasks.leaderboard import summary_of

    summary = summary_of([folder], choice, None if reference is None else str(reference))
    _write_tables(summary, folder)
    shown = console(width=120)
    for one in summary.tables:
        _print_table(one, shown)
    by_reason: dict[str, list[str]] = {}
    for refused in summary.refused:
        if not refused.reason.startswith(("failed", "not chosen")):
            by_reason.setdefault(refused.reason, []).append(refused.folder.name)
    for reason, names in by_reason.items():
        named = names[0] if len(names) == 1 else f"{len(names)} jobs"
        shown.print(f"{named}: {reason}", highlight=False, soft_wrap=True)
    shown.print(f"written to {folder / SWEEP_TABLE}", highlight=False, soft_wrap=True)
    shown.print(f"page: {summary.write_page(folder / PAGE)}", highlight=False, soft_wrap=True)


def _write_tables(summary: "Summary", folder: Path) -> None:
    from pertexp.report.results import comparison_frame, settings_frame

    tables = [one.table for one in summary.tables]
    frames: dict[str, pd.DataFrame] = {
        SWEEP_TABLE: settings_frame(tables),
        COMPARISONS: comparison_frame(tables, [one.all_comparisons for one in summary.tables]),
    }
    for name, frame in frames.items():
        with whole(folder / name) as partial:
            frame.to_csv(partial, index=False)


def _print_table(one: "Compared", shown: "Console") -> None:
    from pertexp.report.learning_curve import curve_sentences
    from pertexp.report.results import (
        reference_console,
        reference_title,
        settings_console,
        settings_title,
        verdict_lines,
    )

    shown.print(f"\n{settings_title(one.table)}", highlight=False, soft_wrap=True)
    shown.print(settings_console(one.table))
    for line in verdict_lines(one.table, one.text):
        shown.print(line, highlight=False)
    for said in (said for curve in one.curves for said in curve_sentences(curve)):
        shown.print(said.text, highlight=False)
    if one.reference is not None and one.comparisons:
        title = reference_title(one.table, one.reference, one.comparisons)
        shown.print(f"\n{title}", highlight=False, soft_wrap=True)
        shown.print(reference_console(one.comparisons, one.reference))
    elif one.refused:
        shown.print(f"no comparison with {one.reference}: {one.refused}", highlight=False)


def _say_failures(failures: Mapping[Path, Failure], total: int) -> int:
    """Print every different reason once; 2 where all of them are wrong requests, else 1."""
    by_reason: dict[str, list[Path]] = {}
    for folder, failure in failures.items():
        by_reason.setdefault(failure.message, []).append(folder)
    for reason, folders in by_reason.items():
        where = f" (see {folders[0]})" if not failures[folders[0]].wrong_request else ""
        print(f"pertexp: {len(folders)} of {total} jobs failed: {reason}{where}", file=sys.stderr)  # noqa: T201
    return WRONG_REQUEST if all(failure.wrong_request for failure in failures.values()) else 1
