"""The parquet tables that a run writes: their files, and the type of every column that readers rely on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pertexp.config.errors import DataError


@dataclass(frozen=True)
class Table:
    """A table that a run writes: its file, and the type of every column that readers rely on."""

    file: str
    columns: Mapping[str, str]

    def read(self, folder: Path) -> pd.DataFrame:
        """Read the table of a run folder, typed.

        Raises
        ------
        DataError
            Where it lacks a column, or a column holds something else.
        """
        return self.typed(pd.read_parquet(folder / self.file))

    def typed(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the declared columns alone, each of its type."""
        missing = [name for name in self.columns if name not in table.columns]
        if missing:
            raise DataError(f"the table lacks {', '.join(missing)}; expected what a run writes.")
        try:
            return table[list(self.columns)].astype(dict(self.columns))
        except (TypeError, ValueError) as fault:
            said = (str(fault).splitlines() or [""])[0]
            raise DataError(f"the table holds no numbers where a run writes some ({said}).") from fault


SCREEN_UNIT = {"perturbation": "str", "context": "str", "fold": "int64"}
UNIT_SCORES = Table("metrics.parquet", {"model": "str", "metric": "str", **SCREEN_UNIT, "seen": "int64",
                                        "value": "float64"})  # fmt: skip
UNIT_CALIBRATION = Table("calibration.parquet", {"metric": "str", **SCREEN_UNIT, "seen": "int64", "drf": "float64",
                                                 "bds": "float64"})  # fmt: skip
SCREEN_SPLIT = Table("split.parquet", {**SCREEN_UNIT, "role": "str"})
PAIR_KEY = {"cell_line": "str", "enhancer": "str", "promoter": "str"}
PAIR_PREDICTIONS = Table("predictions.parquet", {"model": "str", **PAIR_KEY, "chromosome": "str", "fold": "int64",
                                                 "label": "int64", "probability": "float64",
                                                 "called": "boolean"})  # fmt: skip
