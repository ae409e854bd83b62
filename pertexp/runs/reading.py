"""Read a run folder from its files alone, checked against the schema of what a run writes."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pertexp.config.errors import DataError
from pertexp.metrics.registry import register
from pertexp.runs.documents import load, require_format, validated
from pertexp.runs.schema import DATA, ENVIRONMENT, METRICS_FILE, DataRecord, Environment, RunMetrics

T = TypeVar("T")
M = TypeVar("M", bound=RunMetrics)
UNNAMED = "screen"  # what the configuration calls data that have no preset


@dataclass(frozen=True, eq=False, kw_only=True)
class RunFolder:
    """Files of a run of any task; None for a file that is not there.

    Attributes
    ----------
    folder
        Where it lies.
    metrics
        metrics.json, which every scored run has.
    data, environment
        data.json and environment.json.
    config, config_text, overrides
        The composed configuration, as a tree and as written, and what was typed.
    curves
        logs/metrics.csv.
    """

    folder: Path
    metrics: RunMetrics
    data: DataRecord | None
    environment: Environment | None
    config: dict[str, Any] | None
    config_text: str
    overrides: list[str] | None
    curves: pd.DataFrame | None

    @property
    def data_name(self) -> str:
        """Name of the data."""
        return name_of_data(self.config, {} if self.data is None else self.data.notes)

    @property
    def seed(self) -> str:
        """The seed, empty where no configuration says it."""
        found = at(self.config, "seed")
        return "" if found is None else str(found)

    @property
    def folds(self) -> list[int]:
        """Folds that the scored units were held out in."""
        return [] if self.data is None or self.data.fold is None else [self.data.fold]

    @property
    def date(self) -> str:
        """When it ran: from the name of its folder where that says so, else when its scores were written."""
        time = re.match(r"(\d\d)-(\d\d)-(\d\d)", self.folder.name)
        if time and re.fullmatch(r"\d{4}-\d\d-\d\d", self.folder.parent.name):
            return f"{self.folder.parent.name} {time[1]}:{time[2]}"
        written = (self.folder / METRICS_FILE).stat().st_mtime
        return pd.Timestamp(written, unit="s").strftime("%Y-%m-%d %H:%M UTC")


def shared_files(folder: Path, metrics: type[RunMetrics], data: type[DataRecord]) -> dict[str, Any]:
    """Read the fields of `RunFolder`, with metrics.json and data.json as a task writes them.

    Raises
    ------
    DataError
        Where there is no metrics.json, or any file that is there cannot be read or is not what a run writes.
    """
    config_text, config = _config(folder / "config" / "config.yaml")
    return {
        "folder": folder,
        "metrics": read_metrics(folder, metrics),
        "data": optional(folder / DATA, lambda path: load(data, path)),
        "environment": optional(folder / ENVIRONMENT, lambda path: load(Environment, path)),
        "config": config,
        "config_text": config_text,
        "overrides": optional(folder / "config" / "overrides.yaml", _overrides),
        "curves": optional(folder / "logs" / "metrics.csv", _curves),
    }


def read_setting(folder: Path) -> tuple[dict[str, Any], list[str], str]:
    """Read configuration, overrides and name of the data: what sorts a run into its setting."""
    _, config = _config(folder / "config" / "config.yaml")
    notes = optional(folder / DATA, _notes) or {}
    words = optional(folder / "config" / "overrides.yaml", _overrides) or []
    return config or {}, words, name_of_data(config, notes)


def training_perturbations(folder: Path) -> int | None:
    """Return how many perturbations a run on a screen was trained on; None where data.json does not say it."""
    return optional(folder / DATA, lambda path: _values(path).get("training_perturbations"))


def task_name(folder: Path) -> str:
    """Read which task a run belongs to; DataError where metrics.json cannot be read or is of another version."""
    return guarded(_metrics_path(folder), lambda path: str(_metrics_values(path).get("task")))


def read_metrics(folder: Path, kind: type[M]) -> M:
    """Read metrics.json of a run folder; metrics of other packages are known from there on.

    Raises
    ------
    DataError
        Where it cannot be read, is of another version, or gives another meaning to a metric that is known.
    """
    found = guarded(_metrics_path(folder), lambda path: validated(kind, _metrics_values(path), path))
    try:
        register(row.metric for row in found.definitions)
    except ValueError as fault:
        raise DataError(f"{_metrics_path(folder)} cannot be shown with what is known here: {fault}") from fault
    return found


def _metrics_path(folder: Path) -> Path:
    path = folder / METRICS_FILE
    if not path.is_file():
        raise DataError(f"{folder} is no folder of a finished run (no {METRICS_FILE}): name outputs/runs/<date>/<run>.")
    return path


def _metrics_values(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text(encoding="utf-8"))
    require_format(values, path)
    return dict(values)


def _notes(path: Path) -> dict[str, Any]:
    """Return what data.json of any task notes about the data."""
    notes = _values(path).get("notes")
    return notes if isinstance(notes, dict) else {}


def _values(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def name_of_data(config: dict[str, Any] | None, notes: dict[str, Any]) -> str:
    """Name of a preset as configured; for other data, also those of a checkpoint scored anew, what data.json says."""
    configured = at(config, "data", "name")
    if configured not in (None, UNNAMED):
        return str(configured)
    return str(notes.get("file") or notes.get("source") or configured or "unnamed data")


def at(tree: Any, *keys: str) -> Any:
    """Return a value of a configuration, None where a key on the way to it is not there."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def optional(path: Path, read: Callable[[Path], T]) -> T | None:
    """Return what `read` makes of a file; None where it is not there."""
    return guarded(path, read) if path.is_file() else None


def guarded(path: Path, read: Callable[[Path], T]) -> T:
    """Read a file; whatever its reader stumbles over is one sentence."""
    try:
        return read(path)
    except DataError as fault:
        raise DataError(str(fault) if str(path) in str(fault) else f"{path}: {fault}") from fault
    except Exception as fault:  # readers of parquet, HDF5 and YAML raise kinds of their own on a file that is cut off
        said = (str(fault).splitlines() or [""])[0][:160]
        raise DataError(
            f"{path} cannot be read ({type(fault).__name__}: {said}): the file was changed or cut off; "
            "run it again, or take the file away and the page says that it is missing."
        ) from fault


def _curves(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    return table.select_dtypes(np.number)


def _overrides(path: Path) -> list[str]:
    lines = yaml.safe_load(path.read_text(encoding="utf-8"))
    return validated(list[str], lines or [], path)


def _config(path: Path) -> tuple[str, dict[str, Any] | None]:
    if not path.is_file():
        return "", None
    text = guarded(path, lambda path: path.read_text(encoding="utf-8"))
    try:
        tree = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as fault:
        said = (str(fault).splitlines() or [""])[0]
        raise DataError(f"{path} is not valid YAML ({said}): the file was changed or cut off.") from fault
    if not isinstance(tree, dict):
        raise DataError(f"{path} holds no configuration of a run: the file was changed or cut off.")
    return text, {str(key): value for key, value in tree.items()}
