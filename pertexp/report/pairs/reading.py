"""Contents of the run folder of a run on pairs."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pertexp.config.errors import DataError
from pertexp.data.pairs.pairs import KEY
from pertexp.evaluation.pairs.predictions import FILE, stored
from pertexp.runs.reading import RunFolder, optional, shared_files
from pertexp.runs.schema import PairMetrics, PairRecord


@dataclass(frozen=True, eq=False, kw_only=True)
class PairFolder(RunFolder):
    """Files of a run on pairs; None for a file that is not there.

    Attributes
    ----------
    predictions
        predictions.parquet: see `pairs.predictions.COLUMNS`.
    split
        split.parquet: cell_line, enhancer, promoter, and a column of roles for every fold.
    """

    metrics: PairMetrics
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
        **shared_files(folder, PairMetrics, PairRecord),
        predictions=optional(folder / FILE, lambda path: stored(path.parent)),
        split=optional(folder / "split.parquet", _split),
    )


def _split(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    missing = [name for name in KEY if name not in table.columns]
    folds = [name for name in table if re.fullmatch(r"fold\d+", str(name))]
    if missing or not folds:
        raise DataError(f"the table lacks {', '.join(missing) or 'fold0'}; expected what a run writes.")
    return table[[*KEY, *folds]].astype(str)
