"""The job folders of a sweep: finished and failed ones."""

from pathlib import Path

from pertexp.runs.documents import load
from pertexp.runs.schema import FAILURE, METRICS_FILE, Failure

SWEEP_FILE = "multirun.yaml"  # what Hydra writes into the folder of a sweep


def finished_jobs(folder: Path) -> list[Path]:
    """Return folders of the jobs of the latest sweep in `folder` that wrote their metrics."""
    return _latest(folder, METRICS_FILE)


def failed_jobs(folder: Path) -> dict[Path, Failure]:
    """Return the jobs of the latest sweep in `folder` that failed, and why."""
    latest = [path for path in _latest(folder, FAILURE) if not (path / METRICS_FILE).is_file()]
    return {path: load(Failure, path / FAILURE) for path in latest}


def _latest(folder: Path, name: str) -> list[Path]:
    """Job folders that hold a file, those that an earlier sweep of this name left under other defaults aside.

    Hydra writes multirun.yaml when a sweep begins, and the configuration of a job, also of one already done, after.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{name}"))
    begun = folder / SWEEP_FILE
    since = begun.stat().st_mtime_ns if begun.is_file() else 0
    return [path for path in found if (path / "config" / "hydra.yaml").stat().st_mtime_ns >= since]
