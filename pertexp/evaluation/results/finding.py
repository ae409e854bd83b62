"""Find run folders: finished runs, and those that cannot be used, with the reason."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pertexp.config.errors import DataError, RequestError
from pertexp.runs.jobs import SWEEP_FILE, failed_jobs, finished_jobs
from pertexp.runs.record import CONFIG
from pertexp.runs.schema import FAILURE, METRICS_FILE


@dataclass(frozen=True)
class Refused:
    """A folder that is not in any table, and why."""

    folder: Path
    reason: str


def find_runs(paths: Iterable[Path]) -> tuple[list[Path], list[Refused]]:
    """Find run folders at or beneath these, each once; those that failed, did not finish or are stale have a reason.

    Raises
    ------
    RequestError
        Where a path does not exist, or none of them holds a run.
    """
    runs: list[Path] = []
    left: dict[Path, str] = {}
    for path in map(Path.resolve, paths):
        if not path.is_dir():
            raise RequestError(f"{path} is no folder: name outputs/runs/<date>/<run>, a sweep folder, or a parent.")
        found, aside = ([path], {}) if (path / METRICS_FILE).is_file() else _beneath(path)
        runs += found
        left |= aside
    runs = list(dict.fromkeys(runs))
    if not runs:
        reason = f"; {next(iter(left)).name}: {next(iter(left.values()))}" if left else ""
        raise RequestError(f"no finished run (no {METRICS_FILE}) beneath {', '.join(map(str, paths))}{reason}.")
    return runs, [Refused(folder, reason) for folder, reason in left.items() if folder not in runs]


def _beneath(path: Path) -> tuple[list[Path], dict[Path, str]]:
    """Finished runs beneath a folder, of a sweep those of its latest call as in its own table; and all others."""
    begun = {config.parents[1] for config in path.rglob(str(CONFIG))}
    finished = {metrics.parent for metrics in path.rglob(METRICS_FILE)}
    sweeps = {found.parent for found in path.rglob(SWEEP_FILE)}
    latest = {folder for sweep in sweeps for folder in _jobs(sweep)}
    runs = {folder for folder in finished if folder.parent not in sweeps or folder in latest}
    left = dict.fromkeys(sorted(begun - finished), f"not finished: no {METRICS_FILE}")
    left |= dict.fromkeys(sorted(finished - runs), "not counted: an earlier call of this sweep, under other defaults")
    for sweep in sorted(sweeps):
        left |= {folder: f"failed: {reason}" for folder, reason in _failures(sweep).items()}
    return sorted(runs), left


def _jobs(sweep: Path) -> list[Path]:
    try:
        return finished_jobs(sweep)
    except OSError:  # a job whose configuration is gone: each folder speaks for itself
        return [metrics.parent for metrics in sweep.glob(f"*/{METRICS_FILE}")]


def _failures(sweep: Path) -> dict[Path, str]:
    try:
        return {folder: failure.message for folder, failure in failed_jobs(sweep).items()}
    except (OSError, ValueError, DataError):
        return {path.parent: f"{FAILURE} cannot be read" for path in sweep.glob(f"*/{FAILURE}")}
