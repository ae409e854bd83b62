"""What a run folder holds, read from its files alone and held against what a run writes."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from pertexp.errors import DataError

T = TypeVar("T")
S = TypeVar("S", bound="Summary")
SCORES = "metrics.json"
UNNAMED = "screen"  # what the configuration calls data that have no preset


@dataclass(frozen=True)
class Aggregate:
    """A row of metrics.json: one model on one metric, over all units or over a subgroup of them."""

    model: str
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    best: float | None = None
    worst: float | None = None
    calibrated: float | None = None
    members: int | None = None
    seen: int | None = None
    n_left_out: int = 0
    prevalence: float | None = None


@dataclass(frozen=True)
class Trust:
    """How far one metric is to be trusted on this data: the ends of its calibration, DRF and BDS with intervals."""

    metric: str
    trusted: bool
    negative: str = ""
    zero: float | None = None
    one: float | None = None
    drf: float | None = None
    drf_low: float | None = None
    drf_high: float | None = None
    bds: float | None = None
    bds_low: float | None = None
    bds_high: float | None = None


@dataclass(frozen=True)
class Summary:
    """metrics.json, as far as every kind of experiment writes it."""

    model: str
    primary: str
    scale: str
    aggregate: list[Aggregate]
    verdict: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kind: str = "screen"


@dataclass(frozen=True)
class DataRecord:
    """data.json, as far as every kind of experiment writes it."""

    split_hash: str | None = None
    fold: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Environment:
    """environment.json."""

    command: str = ""
    git_revision: str | None = None
    python: str = ""
    platform: str = ""
    threads: int | None = None
    packages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class RunFolder:
    """What a run of any kind left behind; None for a file that is not there.

    Attributes
    ----------
    folder
        Where it lies.
    summary
        metrics.json, which every scored run has.
    data, environment
        data.json and environment.json.
    config, config_text, overrides
        The composed configuration, as a tree and as written, and what was typed.
    curves
        logs/metrics.csv.
    """

    folder: Path
    summary: Summary
    data: DataRecord | None
    environment: Environment | None
    config: dict[str, Any] | None
    config_text: str
    overrides: list[str] | None
    curves: pd.DataFrame | None

    @property
    def data_name(self) -> str:
        """Name of the data."""
        return name_of_data(self.config, self.data)

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
        written = (self.folder / SCORES).stat().st_mtime
        return pd.Timestamp(written, unit="s").strftime("%Y-%m-%d %H:%M UTC")


def shared_files(folder: Path, summary: type[Summary], data: type[DataRecord]) -> dict[str, Any]:
    """The fields of `RunFolder`, with metrics.json and data.json as a kind of experiment writes them.

    Raises
    ------
    DataError
        Where there is no metrics.json, or any file that is there cannot be read or is not what a run writes.
    """
    config_text, config = _config(folder / "config" / "config.yaml")
    return {
        "folder": folder,
        "summary": read_summary(folder, summary),
        "data": optional(folder / "data.json", lambda path: json_as(data, path)),
        "environment": optional(folder / "environment.json", lambda path: json_as(Environment, path)),
        "config": config,
        "config_text": config_text,
        "overrides": optional(folder / "config" / "overrides.yaml", _overrides),
        "curves": optional(folder / "logs" / "metrics.csv", _curves),
    }


def read_setting(folder: Path) -> tuple[Summary, dict[str, Any], list[str], str]:
    """Summary, configuration, overrides and name of the data: what a leaderboard needs of a run beside its scores."""
    _, config = _config(folder / "config" / "config.yaml")
    data = optional(folder / "data.json", lambda path: json_as(DataRecord, path))
    words = optional(folder / "config" / "overrides.yaml", _overrides) or []
    return read_summary(folder, Summary), config or {}, words, name_of_data(config, data)


def name_of_data(config: dict[str, Any] | None, data: DataRecord | None) -> str:
    """Name of a preset as configured; for other data, also those of a checkpoint scored anew, what data.json says."""
    configured = at(config, "data", "name")
    if configured not in (None, UNNAMED):
        return str(configured)
    notes = {} if data is None else data.notes
    return str(notes.get("file") or notes.get("source") or configured or "unnamed data")


def read_summary(folder: Path, kind: type[S]) -> S:
    """metrics.json of a run folder."""
    path = folder / SCORES
    if not path.is_file():
        raise DataError(f"{folder} is no folder of a finished run (no {SCORES}): name outputs/runs/<date>/<run>.")
    return guarded(path, lambda path: json_as(kind, path))


def at(tree: Any, *keys: str) -> Any:
    """A value of a configuration, None where a key on the way to it is not there."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def optional(path: Path, read: Callable[[Path], T]) -> T | None:
    """What is read of a file; None where it is not there."""
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


def json_as(kind: type[T], path: Path) -> T:
    """A JSON file as a type of ours."""
    return _typed(kind, json.loads(path.read_text(encoding="utf-8")), path)


def _typed(kind: type[T], values: Any, path: Path) -> T:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(f"{path} is not what a run writes ({where}: {first['msg']}).") from fault


def with_columns(table: pd.DataFrame, wanted: list[str]) -> pd.DataFrame:
    """The table itself; refused where it lacks a column."""
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise DataError(f"the table lacks {', '.join(missing)}; expected what a run writes.")
    return table


def _curves(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    return table.select_dtypes(np.number)


def _overrides(path: Path) -> list[str]:
    lines = yaml.safe_load(path.read_text(encoding="utf-8"))
    return _typed(list[str], lines or [], path)


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
