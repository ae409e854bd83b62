"""What the folder of a run on a screen holds."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.runs.reading import (
    Aggregate,
    DataRecord,
    RunFolder,
    Summary,
    Trust,
    json_as,
    optional,
    shared_files,
    with_columns,
)

UNIT = ["perturbation", "context", "fold"]


@dataclass(frozen=True)
class ScreenSummary(Summary):
    """metrics.json of a screen."""

    by_seen: list[Aggregate] = field(default_factory=list)
    calibration: list[Trust] = field(default_factory=list)


@dataclass(frozen=True)
class ScreenRecord(DataRecord):
    """data.json of a screen."""

    cells: int | None = None
    genes: int | None = None
    units_by_role: dict[str, int] = field(default_factory=dict)
    cells_by_role: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScreenFolder(RunFolder):
    """All that a run on a screen left behind; None for a file that is not there.

    Attributes
    ----------
    per_unit
        metrics.parquet: model, metric, perturbation, context, fold, value.
    frame
        predictions.h5ad.
    split
        split.parquet: perturbation, context, fold, role.
    recovery
        recovery.json: how much of what a simulator planted was found.
    """

    summary: ScreenSummary
    data: ScreenRecord | None
    per_unit: pd.DataFrame | None
    frame: EvaluationFrame | None
    split: pd.DataFrame | None
    recovery: dict[str, float] | None

    @property
    def folds(self) -> list[int]:
        """Folds that the scored units were held out in."""
        return super().folds if self.per_unit is None else sorted({int(fold) for fold in self.per_unit["fold"]})


def read_screen(folder: Path) -> ScreenFolder:
    """Read the folder of a run on a screen.

    Raises
    ------
    DataError
        Where there is no metrics.json, or any file that is there cannot be read or is not what a run writes.
    """
    folder = folder.resolve()
    return ScreenFolder(
        **shared_files(folder, ScreenSummary, ScreenRecord),
        per_unit=optional(folder / "metrics.parquet", _per_unit),
        frame=optional(folder / "predictions.h5ad", _frame),
        split=optional(folder / "split.parquet", _split),
        recovery=optional(folder / "recovery.json", lambda path: json_as(dict[str, float], path)),
    )


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        perturbation=table["perturbation"].astype(str),
        context=table["context"].astype(str),
        fold=table["fold"].astype(int),
    )


def _per_unit(path: Path) -> pd.DataFrame:
    table = _named(with_columns(pd.read_parquet(path), ["model", "metric", *UNIT, "value"]))
    return table.assign(value=table["value"].astype(float))


def _split(path: Path) -> pd.DataFrame:
    return _named(with_columns(pd.read_parquet(path), [*UNIT, "role"]))


def _frame(path: Path) -> EvaluationFrame:
    import anndata

    return EvaluationFrame.from_anndata(anndata.read_h5ad(path))
