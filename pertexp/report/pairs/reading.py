"""What the folder of a run on pairs holds."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pertexp.data.pairs.pairs import KEY
from pertexp.errors import DataError
from pertexp.evaluation.pairs.lineup import Lineup, Role
from pertexp.evaluation.pairs.predictions import COLUMNS, FILE, UNIT
from pertexp.runs.reading import (
    Aggregate,
    DataRecord,
    RunFolder,
    Summary,
    guarded,
    optional,
    read_summary,
    shared_files,
    with_columns,
)


@dataclass(frozen=True)
class GroupValue:
    """A model on a metric over the pairs of a cell line, of a line in a fold, or over all of them at once."""

    model: str
    metric: str
    value: float | None
    n: int
    prevalence: float | None
    low: float | None = None
    high: float | None = None
    cell_line: str = ""
    fold: int | None = None


@dataclass(frozen=True)
class Side:
    """The model on the pairs of one role."""

    auprc: float | None
    prevalence: float | None
    n: int


@dataclass(frozen=True)
class Gap:
    """AUPRC on the pairs of every role, and the differences."""

    train: Side | None = None
    val: Side | None = None
    test: Side | None = None
    train_minus_val: float | None = None
    val_minus_test: float | None = None
    train_minus_test: float | None = None
    train_minus_test_by_chance: float | None = None


@dataclass(frozen=True)
class Spread:
    """A metric over draws of the support sets."""

    mean: float | None
    sd: float | None
    min: float | None
    max: float | None
    values: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Draws:
    """What other support sets are worth."""

    n_draws: int
    auprc: Spread
    auroc: Spread


@dataclass(frozen=True)
class WatchedValue:
    """A quantity that the model watches."""

    value: float | None
    chance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class MarkValue:
    """A mark, and what became of it; an end that is None is open."""

    quantity: str
    said: str
    met: bool | None
    low: float | None = None
    high: float | None = None
    value: float | None = None
    chance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class PairSummary(Summary):
    """metrics.json of pairs."""

    roles: dict[str, Role] = field(default_factory=dict)
    not_counted: dict[str, str] = field(default_factory=dict)
    intervals: str = ""
    n_resamples: int = 2000
    seed: int = 0
    by_line: list[GroupValue] = field(default_factory=list)
    by_fold: list[GroupValue] = field(default_factory=list)
    pooled: list[GroupValue] = field(default_factory=list)
    thresholds: dict[str, float | None] = field(default_factory=dict)
    generalisation: Gap = field(default_factory=Gap)
    support_draws: Draws | None = None
    watched: dict[str, WatchedValue] = field(default_factory=dict)
    marks: list[MarkValue] = field(default_factory=list)

    @property
    def lineup(self) -> Lineup:
        """Who stands in the table."""
        return Lineup.stored({"model": self.model, "roles": self.roles, "not_counted": self.not_counted})

    @property
    def own(self) -> list[Aggregate]:
        """Rows of the model."""
        return [entry for entry in self.aggregate if entry.model == self.model]


@dataclass(frozen=True)
class PairRecord(DataRecord):
    """data.json of pairs."""

    pairs: int | None = None
    elements: int | None = None
    lines: list[str] = field(default_factory=list)
    tests: str = ""
    pairs_by_role: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class PairFolder(RunFolder):
    """All that a run on pairs left behind; None for a file that is not there.

    Attributes
    ----------
    predictions
        predictions.parquet: see `pairs.predictions.COLUMNS`.
    split
        split.parquet: cell_line, enhancer, promoter, and a column of roles for every fold.
    """

    summary: PairSummary
    data: PairRecord | None
    predictions: pd.DataFrame | None
    split: pd.DataFrame | None

    @property
    def folds(self) -> list[int]:
        """Folds that the scored pairs were held out in."""
        return super().folds if self.predictions is None else sorted({int(f) for f in self.predictions["fold"]})


def read_pairs(folder: Path) -> PairFolder:
    """Read the folder of a run on pairs.

    Raises
    ------
    DataError
        Where there is no metrics.json, or any file that is there cannot be read or is not what a run writes.
    """
    folder = folder.resolve()
    return PairFolder(
        **shared_files(folder, PairSummary, PairRecord),
        predictions=optional(folder / FILE, _predictions),
        split=optional(folder / "split.parquet", _split),
    )


def judged_by(folder: Path) -> tuple[PairSummary, pd.DataFrame]:
    """The scores of a run and the table that they follow from; DataError where either cannot be read."""
    if not (folder / FILE).is_file():
        raise DataError(f"{folder} holds no {FILE}: what it was judged by is not on record; run it again.")
    return read_summary(folder, PairSummary), guarded(folder / FILE, _predictions)


def _predictions(path: Path) -> pd.DataFrame:
    table = with_columns(pd.read_parquet(path), COLUMNS)[COLUMNS]
    words = dict.fromkeys(["model", *UNIT], str) | {"fold": int, "label": int, "probability": float}
    typed = table.astype(words | {"called": "boolean"})
    if not (typed["label"].isin([0, 1]).all() and typed["probability"].between(0, 1).all()):
        raise DataError("the table holds labels other than 0 and 1, or numbers that are no probability.")
    twice = typed.duplicated(["model", *UNIT])
    if twice.any() or typed.groupby("model").size().nunique() > 1:
        raise DataError("the table holds a pair twice, or not all pairs of every model; expected what a run writes.")
    return typed


def _split(path: Path) -> pd.DataFrame:
    table = with_columns(pd.read_parquet(path), KEY)
    folds = [name for name in table if re.fullmatch(r"fold\d+", str(name))]
    if not folds:
        raise DataError("the table lacks fold0; expected what a run writes.")
    return table[[*KEY, *folds]].astype(str)
