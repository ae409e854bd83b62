"""The table of scored pairs: the prediction of every model for every pair, from which all scores are computed."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, RequestError
from pertexp.data.pairs.design import PairDesign
from pertexp.data.pairs.loader import Batch
from pertexp.data.pairs.pairs import KEY
from pertexp.models.protocols import PairPredictor
from pertexp.runs.reading import guarded
from pertexp.runs.tables import PAIR_PREDICTIONS

PAIR_AND_FOLD = [*KEY, "chromosome", "fold"]
COLUMNS = list(PAIR_PREDICTIONS.columns)
FILE = PAIR_PREDICTIONS.file


def predicted(model: PairPredictor, batches: Iterable[Batch], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs `[n]` of the batches, ascending, and what the model says of them `[n]`.

    Raises
    ------
    RequestError
        Where it gives another number of values, or something that is no probability, as after training diverged.
    """
    seen: list[np.ndarray] = []
    probability = np.asarray(model.predict(_noted(batches, seen)), dtype=np.float64)
    rows = np.concatenate(seen) if seen else np.empty(0, dtype=np.int64)
    if probability.shape != rows.shape:
        raise RequestError(f"{name} gave predictions of shape {probability.shape} for {rows.size} pairs: expected one.")
    wrong = ~((probability >= 0) & (probability <= 1))
    if wrong.any():
        raise RequestError(
            f"{name} predicts {probability[wrong][0]} for a pair ({int(wrong.sum())} such pairs): expected "
            "probabilities; training may have diverged, type a smaller optimizer.lr."
        )
    order = np.argsort(rows)
    return rows[order], probability[order]


def _noted(batches: Iterable[Batch], seen: list[np.ndarray]) -> Iterator[Batch]:
    for batch in batches:
        seen.append(batch["pair"].cpu().numpy())
        yield batch


def tabled(
    design: PairDesign, rows: np.ndarray, name: str, probability: np.ndarray, threshold: float | None
) -> pd.DataFrame:
    """Return rows of the table for one model: `COLUMNS`; `called` is missing where there is no threshold."""
    units = design.pairs.units.iloc[rows].reset_index(drop=True)
    called = pd.array([pd.NA] * rows.size, dtype="boolean") if threshold is None else probability >= threshold
    return units.assign(
        model=name,
        fold=design.split.fold,
        label=design.pairs.label[rows],
        probability=probability,
        called=pd.array(called, dtype="boolean"),
    )[COLUMNS]


def pooled(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join the pairs of several runs; models that are not in every run are left out.

    Raises
    ------
    DataError
        Where there is nothing to pool, or a pair stands in several runs.
    """
    if not tables:
        raise DataError("there are no predictions to pool; expected those of one run per fold.")
    shared = set.intersection(*(set(table["model"]) for table in tables))
    joined = pd.concat([table[table["model"].isin(shared)] for table in tables], ignore_index=True)
    if joined.empty:
        raise DataError("the runs to pool share no model; expected folds of one experiment.")
    twice = joined.duplicated(["model", *KEY])
    if twice.any():
        row = joined[twice].iloc[0]
        raise DataError(
            f"{row['enhancer']} and {row['promoter']} in {row['cell_line']} stand in several of the runs to pool; "
            "expected runs on different lines or folds, of one seed and one setting."
        )
    return joined


def stored(folder: Path) -> pd.DataFrame:
    """Read the table that a run left in its folder.

    Raises
    ------
    DataError
        Where it is absent, cannot be read, or is no table that a run writes.
    """
    path = folder / FILE
    if not path.is_file():
        raise DataError(f"{folder} holds no {FILE}: the predictions that were scored are not on record; run it again.")
    return guarded(path, lambda path: _checked(PAIR_PREDICTIONS.read(path.parent)))


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    if not (table["label"].isin([0, 1]).all() and table["probability"].between(0, 1).all()):
        raise DataError("the table holds labels other than 0 and 1, or numbers that are no probability.")
    twice = table.duplicated(["model", *PAIR_AND_FOLD])
    if twice.any() or table.groupby("model").size().nunique() > 1:
        raise DataError("the table holds a pair twice, or not all pairs of every model; expected what a run writes.")
    return table
