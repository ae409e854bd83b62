"""Compute every metric of every prediction from an evaluation frame and its cells, with calibration, as long tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError
from pertexp.evaluation.roles import REPLICATE
from pertexp.evaluation.screens.cells import TestedCells
from pertexp.evaluation.screens.families import Family, FamilyScorer, Values
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.metrics.calibration import bound_discrimination, dynamic_range_fraction
from pertexp.metrics.metric import Metric
from pertexp.metrics.registry import METRICS
from pertexp.runs.reading import guarded
from pertexp.runs.tables import UNIT_CALIBRATION, UNIT_SCORES, Table

SCORED_UNIT = ["perturbation", "context", "fold", "seen"]
TRUST = ["metric", *SCORED_UNIT, "drf", "bds"]
NO_REPLICATE = f"{REPLICATE}: not available, the data hold no cells to split into two halves"


@dataclass(frozen=True, eq=False)
class Measured:
    """Values of all metrics, unit by unit; tables of several folds are pooled by joining them.

    Attributes
    ----------
    per_unit
        Long table: model, metric, perturbation, context, fold, seen, value (NaN where not applicable).
    reliability
        Long table: metric, perturbation, context, fold, seen, drf, bds: means over the splits of the replicate; empty
        where there is none.
    scale
        Scale of the profiles, as declared.
    """

    per_unit: pd.DataFrame
    reliability: pd.DataFrame
    scale: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What is absent, and why."""
        return (NO_REPLICATE,) if self.reliability.empty else ()


def measure(frame: EvaluationFrame, cells: TestedCells, families: Mapping[str, Family]) -> Measured:
    """Score every prediction of the frame, and the replicate where there is one, on every metric of the families."""
    per_unit, reliability = [], []
    units = _units(frame)
    for family in families.values():
        scorer = family.scorer(frame, cells)
        for name in frame.compared:
            per_unit.append(_long(units, scorer.prediction(name), name))
        if frame.replicate is not None:
            replicates = [scorer.replicate(split) for split in range(frame.n_splits)]
            per_unit.append(_long(units, _mean(replicates), REPLICATE))
            reliability.append(_reliability(units, frame, scorer, replicates))
    order = {name: position for position, name in enumerate(frame.models)}
    table = pd.concat(per_unit, ignore_index=True).sort_values("model", key=lambda m: m.map(order), kind="stable")
    trust = pd.concat(reliability, ignore_index=True) if reliability else pd.DataFrame(columns=TRUST)
    return Measured(table.reset_index(drop=True), trust, frame.scale)


def pooled(parts: list[Measured]) -> Measured:
    """Join the units of several folds; models and metrics that are not in every part are left out."""
    if not parts:
        raise DataError("there are no scores to pool; expected those of one run per fold.")
    scales = sorted({part.scale for part in parts})
    if len(scales) > 1:
        raise DataError(f"the runs to pool are on the scales {' and '.join(scales)}; expected one.")
    tables = [part.per_unit for part in parts]
    for key in ("model", "metric"):
        shared = set.intersection(*(set(table[key]) for table in tables))
        tables = [table[table[key].isin(shared)] for table in tables]
    joined = pd.concat(tables, ignore_index=True)
    _refuse_repeats(joined)
    trust = [part.reliability for part in parts]
    complete = all(not table.empty for table in trust)
    reliability = pd.concat(trust, ignore_index=True) if complete else trust[0].iloc[:0]
    return Measured(joined, reliability, parts[0].scale)


def _refuse_repeats(table: pd.DataFrame) -> None:
    if table.empty:
        raise DataError("the runs to pool share no model and metric; expected folds of one experiment.")
    twice = table.duplicated(["model", "metric", *SCORED_UNIT[:3]])
    if twice.any():
        row = table[twice].iloc[0]
        raise DataError(
            f"{row['perturbation']} in {row['context']}, fold {row['fold']}, stands in several of the runs to pool; "
            "expected runs on different folds, of one seed and one setting."
        )


def stored(folder: Path, scale: str) -> Measured:
    """Read what a run left in its folder; the scale of its profiles stands in metrics.json.

    Raises
    ------
    DataError
        Where a file is absent, cannot be read, or is not what a run writes.
    """
    per_unit, reliability = (_stored(kind, folder) for kind in (UNIT_SCORES, UNIT_CALIBRATION))
    return Measured(per_unit, reliability, scale)


def _stored(kind: Table, folder: Path) -> pd.DataFrame:
    if not (folder / kind.file).is_file():
        raise DataError(f"{folder} holds no {kind.file}: what was scored is not on record; run it again.")
    return guarded(folder / kind.file, lambda path: kind.read(path.parent))


def _units(frame: EvaluationFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "perturbation": list(frame.perturbation),
            "context": list(frame.context),
            "fold": frame.fold,
            "seen": frame.seen,
        }
    )


def _long(units: pd.DataFrame, values: Values, model: str) -> pd.DataFrame:
    for name, value in values.items():
        if np.shape(value) != (len(units),):
            raise DataError(
                f"the metric {name} gave values of shape {np.shape(value)} for {model}: expected one value a unit, "
                f"({len(units)},)."
            )
    parts = [units.assign(model=model, metric=name, value=value) for name, value in values.items()]
    return pd.concat(parts, ignore_index=True)[["model", "metric", *SCORED_UNIT, "value"]]


def _mean(splits: list[Values]) -> Values:
    return {name: np.mean([values[name] for values in splits], axis=0) for name in splits[0]}


def _reliability(
    units: pd.DataFrame, frame: EvaluationFrame, scorer: FamilyScorer, replicates: list[Values]
) -> pd.DataFrame:
    """DRF and BDS of each unit, on the half on which the replicate is scored, mean over splits."""
    wanted = {METRICS[name].negative for name in replicates[0]} & set(frame.predictions)
    negatives = {name: [scorer.on_half(name, split) for split in range(len(replicates))] for name in sorted(wanted)}
    parts = []
    for name in replicates[0]:
        metric = METRICS[name]
        if metric.negative in negatives:
            drf, bds = _trust(metric, replicates, negatives[metric.negative])
            parts.append(units.assign(metric=name, drf=drf, bds=bds))
    return pd.concat(parts, ignore_index=True)[TRUST] if parts else pd.DataFrame(columns=TRUST)


def _trust(metric: Metric, positives: list[Values], negatives: list[Values]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(a[metric.name], b[metric.name]) for a, b in zip(positives, negatives, strict=True)]
    drf = np.mean([dynamic_range_fraction(metric, *pair) for pair in pairs], axis=0)
    return drf, np.mean([bound_discrimination(metric, *pair) for pair in pairs], axis=0)
