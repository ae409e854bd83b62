"""Contents of the run folder of a run on a screen."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.runs.documents import load
from pertexp.runs.reading import RunFolder, optional, shared_files
from pertexp.runs.schema import RECOVERY, ScreenMetrics, ScreenRecord
from pertexp.runs.tables import SCREEN_SPLIT, UNIT_SCORES

UNIT_AND_FOLD = ["perturbation", "context", "fold"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScreenFolder(RunFolder):
    """Files of a run on a screen; None for a file that is not there.

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

    metrics: ScreenMetrics
    data: ScreenRecord | None
    per_unit: pd.DataFrame | None
    frame: EvaluationFrame | None
    split: pd.DataFrame | None
    recovery: dict[str, float] | None

    @property
    def folds(self) -> list[int]:
        """Folds that the scored units were held out in."""
        return super().folds if self.per_unit is None else sorted({int(fold) for fold in self.per_unit["fold"]})


def read_screen(folder: Path, frame_type: type[EvaluationFrame] = EvaluationFrame) -> ScreenFolder:
    """Read the folder of a run on a screen, whose predictions are such a frame.

    Raises
    ------
    DataError
        Where there is no metrics.json, or any file that is there cannot be read or is not what a run writes.
    """
    folder = folder.resolve()
    return ScreenFolder(
        **shared_files(folder, ScreenMetrics, ScreenRecord),
        per_unit=optional(folder / UNIT_SCORES.file, lambda path: UNIT_SCORES.read(path.parent)),
        frame=optional(folder / "predictions.h5ad", lambda path: _frame(path, frame_type)),
        split=optional(folder / SCREEN_SPLIT.file, lambda path: SCREEN_SPLIT.read(path.parent)),
        recovery=optional(folder / RECOVERY, lambda path: load(dict[str, float], path)),
    )


def _frame(path: Path, frame_type: type[EvaluationFrame]) -> EvaluationFrame:
    import anndata

    return frame_type.from_anndata(anndata.read_h5ad(path))
