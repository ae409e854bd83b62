"""The job folders of a sweep: which are done, which failed, and what was swept in each."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

FOLDS = ("data.split.fold", "data.split.line")  # what is tested where: pooled
SEED = "seed"
REPEATS = (*FOLDS, SEED)
FAILURE = "failure.json"


@dataclass(frozen=True)
class Job:
    """One finished job: what was swept in it, and where it lies."""

    folder: Path
    overrides: dict[str, str]

    @property
    def seed(self) -> str:
        """Its seed as typed; empty where seeds were not swept."""
        return self.overrides.get(SEED, "")


def finished_jobs(folder: Path) -> list[Job]:
    """The jobs of the latest sweep in `folder` that wrote their metrics, in the order of their overrides.

    Equal sums need an equal order: a baseline is the same in every setting to the last bit.
    """
    jobs = [Job(path, _overrides(path)) for path in _latest(folder, "metrics.json")]
    return sorted(jobs, key=lambda job: sorted(job.overrides.items()))


def swept_keys(jobs: Sequence[Job]) -> list[str]:
    """Keys whose values differ between jobs, folds and seeds aside."""
    keys = sorted({key for job in jobs for key in job.overrides} - set(REPEATS))
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def grouped(jobs: Iterable[Job], keys: Sequence[str]) -> dict[tuple[str, ...], list[Job]]:
    """Jobs by their values of these keys, in the order of the jobs."""
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.overrides.get(key, "") for key in keys), []).append(job)
    return groups


def failed_jobs(folder: Path) -> dict[Path, dict[str, Any]]:
    """The jobs of the latest sweep in `folder` that failed, and why."""
    latest = [path for path in _latest(folder, FAILURE) if not (path / "metrics.json").is_file()]
    return {path: json.loads((path / FAILURE).read_text(encoding="utf-8")) for path in latest}


def _latest(folder: Path, name: str) -> list[Path]:
    """Job folders that hold a file, those that an earlier sweep of this name left under other defaults aside.

    Hydra writes multirun.yaml when a sweep begins, and the configuration of a job, also of one already done, after.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{name}"))
    begun = folder / "multirun.yaml"
    since = begun.stat().st_mtime_ns if begun.is_file() else 0
    return [path for path in found if (path / "config" / "hydra.yaml").stat().st_mtime_ns >= since]


def _overrides(folder: Path) -> dict[str, str]:
    lines = OmegaConf.load(folder / "config" / "overrides.yaml")
    pairs = (str(line).lstrip("+~").partition("=") for line in lines)
    return {key: value for key, _, value in pairs}
