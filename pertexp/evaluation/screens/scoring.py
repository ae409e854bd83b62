"""Means over units, their intervals and their calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from pertexp.data.screens.screen import members
from pertexp.evaluation.bootstrap import Interval, bootstrap_mean, bootstrap_median, paired_difference
from pertexp.evaluation.comparison import Difference
from pertexp.evaluation.roles import REPLICATE, TRUTH, RowRoles
from pertexp.evaluation.screens.measuring import Measured
from pertexp.metrics.calibration import TRUSTED, calibrated
from pertexp.metrics.core import SHARED
from pertexp.metrics.output import OutputName
from pertexp.metrics.registry import METRICS, OWN
from pertexp.runs import documents, schema
from pertexp.runs.record import whole, write_text
from pertexp.runs.schema import (
    Bootstrap,
    CalibrationMetrics,
    CalibrationRow,
    Comparison,
    MetricRow,
    ScoreRow,
    ScreenMetrics,
)
from pertexp.runs.tables import UNIT_CALIBRATION, UNIT_SCORES

TASK = "screens"
EFFECT = "pearson_delta"
COLLAPSED = 0.5  # of the score with shared controls: below, a screen is flagged


@dataclass(frozen=True, eq=False)
class Scores:
    """Every metric of every prediction.

    Attributes
    ----------
    measured
        The long tables that everything else is worked out from.
    aggregate
        One row per model and metric: mean, low, high, n, n_perturbations, n_left_out, best, worst, calibrated.
    by_seen
        The same per number of members and of seen members; empty where the frame holds no combination.
    calibration
        One row per metric: zero and one (means of the negative control and of the replicate), drf and bds with their
        intervals, trusted; empty where the data hold no cells.
    primary
        The metric that orders tables.
    n_resamples, seed
        Of the bootstrap.
    """

    measured: Measured
    aggregate: pd.DataFrame
    by_seen: pd.DataFrame
    calibration: pd.DataFrame
    primary: str
    n_resamples: int
    seed: int
    remedy: ClassVar[str] = "pool folds with -m data.split.fold=0,1,..."

    @classmethod
    def of(cls, measured: Measured, primary: str | None = None, n_resamples: int = 2000, seed: int = 0) -> "Scores":
        """Aggregate, with bootstrap intervals over perturbations."""
        names = list(measured.per_unit["metric"].unique())
        chosen = primary or _default_primary(measured.per_unit, names)
        aggregate = _aggregate(measured.per_unit, ["model", "metric"], n_resamples, seed)
        calibration = _calibration(measured, aggregate, n_resamples, seed)
        aggregate["calibrated"] = _calibrated(aggregate, calibration)
        by_seen = _by_seen(measured.per_unit, n_resamples, seed)
        return cls(measured, aggregate, by_seen, calibration, chosen, n_resamples, seed)

    @property
    def per_unit(self) -> pd.DataFrame:
        """Long table: model, metric, perturbation, context, fold, seen, value (NaN where not applicable)."""
        return self.measured.per_unit

    @property
    def scale(self) -> str:
        """Scale of the profiles, as declared."""
        return self.measured.scale

    @property
    def notes(self) -> tuple[str, ...]:
        """What is absent, and why; what is to be doubted."""
        return (*self.measured.notes, *self._collapse())

    @property
    def collapsed(self) -> bool:
        """Whether half of the cells loses most of its score once the controls of the other half are others."""
        own, shared = self._of_replicate
        return own < COLLAPSED * shared

    @property
    def _of_replicate(self) -> tuple[float, float]:
        """Mean of the replicate with held-out and with shared controls; NaN where there is none."""
        table = self.aggregate[self.aggregate["model"] == REPLICATE].set_index("metric")["mean"]
        own, shared = (float(table.get(name, math.nan)) for name in (EFFECT, f"{EFFECT}_{SHARED}"))
        return own, shared

    def _collapse(self) -> list[str]:
        if not self.collapsed:
            return []
        own, shared = self._of_replicate
        return [
            f"most of what is scored on this screen is the noise of its control cells: the replicate has a {EFFECT} of "
            f"{shared:.2f} where both halves share their controls, and of {own:.2f} where they do not"
        ]

    @property
    def models(self) -> tuple[str, ...]:
        """Scored names in the order of the frame: the model, the baselines, the replicate."""
        return tuple(self.aggregate["model"].unique())

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the order of the table."""
        return tuple(self.aggregate["metric"].unique())

    @property
    def headline(self) -> tuple[str, ...]:
        """The primary metric, then the others that a verdict is about."""
        others = (name for name in self.metrics if METRICS[name].level == "headline" and name != self.primary)
        return (self.primary, *others)

    @property
    def untrusted(self) -> tuple[str, ...]:
        """Metrics on which the replicate does not beat the negative control on this data: BDS below 0.5."""
        table = self.calibration
        return () if table.empty else tuple(table.loc[table["bds"] < TRUSTED, "metric"])

    def rows(self, model: str, metric: str) -> pd.DataFrame:
        """Return units of one model and metric, in the order of the frame."""
        table = self.per_unit
        return table[(table["model"] == model) & (table["metric"] == metric)]

    def summary(self, model: str, metric: str) -> pd.Series:
        """Aggregate row of one model and metric."""
        table = self.aggregate
        return table[(table["model"] == model) & (table["metric"] == metric)].iloc[0]

    @property
    def over(self) -> str:
        """What is resampled, in words."""
        alone = self.per_unit["perturbation"].nunique() == 1
        return "over contexts and folds" if alone else "over perturbations"

    def difference(self, model: str, other: str, metric: str) -> Difference:
        """Compare model - other, paired over perturbations, or over contexts and folds of a single one."""
        a, b = self.rows(model, metric), self.rows(other, metric)
        names = a["perturbation"].to_numpy(dtype=str)
        left, right = a["value"].to_numpy(dtype=float), b["value"].to_numpy(dtype=float)
        widest = abs(METRICS[metric].best - METRICS[metric].worst)
        gap = paired_difference(left, right, names, self.n_resamples, self.seed)
        return _difference(gap.within(-widest, widest))

    def roles(self, model: str) -> RowRoles:
        """Return what each row is, where the model is called `model`."""
        aside = (model, REPLICATE, TRUTH)
        return RowRoles(
            model,
            baselines=tuple(name for name in self.models if name not in aside),
            replicate=tuple(name for name in self.models if name == REPLICATE),
            truth=tuple(name for name in self.models if name == TRUTH),
        )

    def metrics_of(self, model: str, verdict: list[Comparison], predicts: OutputName) -> ScreenMetrics:
        """Everything that metrics.json holds of a run."""
        return ScreenMetrics(
            task=TASK,
            predicts=predicts,
            model=model,
            primary=self.primary,
            scale=self.scale,
            roles=self.roles(model).by_name,
            bootstrap=Bootstrap(self.n_resamples, self.seed, over=self.over),
            aggregate=documents.rows(ScoreRow, self.aggregate),
            verdict=verdict,
            notes=list(self.notes),
            by_seen=documents.rows(ScoreRow, self.by_seen),
            calibration=documents.rows(CalibrationRow, self.calibration),
            definitions=[MetricRow.of(METRICS[name]) for name in self.metrics if name not in OWN],
        )

    def write_calibration(self, folder: Path, data_name: str) -> None:
        """Write the unit tables, then calibration.json: what calibration finds on a data set, without any model."""
        summary = CalibrationMetrics(
            data=data_name,
            collapsed=self.collapsed,
            scale=self.scale,
            bootstrap=Bootstrap(self.n_resamples, self.seed, over=self.over),
            aggregate=documents.rows(ScoreRow, self.aggregate),
            calibration=documents.rows(CalibrationRow, self.calibration),
            notes=list(self.notes),
        )
        self.write_units(folder)
        write_text(folder / schema.CALIBRATION, documents.dumped(summary))

    def write_units(self, folder: Path) -> None:
        """Write metrics.parquet and calibration.parquet, a row per unit, each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        for kind, table in ((UNIT_SCORES, self.per_unit), (UNIT_CALIBRATION, self.measured.reliability)):
            with whole(folder / kind.file) as partial:
                table.to_parquet(partial, index=False)


def _default_primary(per_unit: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the first headline metric; with shared controls where no unit has held-out ones."""
    first = next((name for name in names if METRICS[name].level == "headline"), names[0])
    shared = f"{first}_{SHARED}"
    applies = per_unit.loc[per_unit["metric"] == first, "value"].notna().any()
    return first if applies or shared not in names else shared


def _calibration(measured: Measured, aggregate: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    mean = aggregate.set_index(["model", "metric"])["mean"]
    records = []
    for metric, part in measured.reliability.groupby("metric", sort=False):
        names = part["perturbation"].to_numpy(dtype=str)
        drf = bootstrap_median(part["drf"].to_numpy(dtype=float), names, n_resamples, seed)
        bds = bootstrap_mean(part["bds"].to_numpy(dtype=float), names, n_resamples, seed).within(0.0, 1.0)
        negative = METRICS[str(metric)].negative
        record = {"metric": metric, "negative": negative, "zero": mean.get((negative, metric), np.nan)}
        record |= {"one": mean.get((REPLICATE, metric), np.nan), "n": bds.n}
        for name, interval in (("drf", drf), ("bds", bds)):
            record |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
        records.append(record | {"trusted": bool(bds.mean >= TRUSTED)})
    return pd.DataFrame.from_records(records)


def _calibrated(aggregate: pd.DataFrame, calibration: pd.DataFrame) -> list[float]:
    if calibration.empty:
        return [math.nan] * len(aggregate)
    ends = calibration.set_index("metric")[["zero", "one"]].astype(float)
    of_rows = ends.reindex(aggregate["metric"]).to_numpy()
    rows = zip(aggregate["metric"], aggregate["mean"].astype(float), of_rows, strict=True)
    return [calibrated(METRICS[metric], mean, zero, one) for metric, mean, (zero, one) in rows]


def _aggregate(table: pd.DataFrame, keys: list[str], n_resamples: int, seed: int) -> pd.DataFrame:
    records = []
    for group, part in table.groupby(keys, sort=False):
        named = dict(zip(keys, group, strict=True))
        metric = METRICS[str(named["metric"])]
        names = part["perturbation"].to_numpy(dtype=str)
        interval = bootstrap_mean(part["value"].to_numpy(dtype=float), names, n_resamples, seed)
        interval = interval.within(metric.best, metric.worst)
        found = {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
        found |= {"n_perturbations": interval.n_clusters, "n_left_out": interval.n_left_out}
        records.append(named | found | {"best": metric.best, "worst": metric.worst})
    return pd.DataFrame.from_records(records)


def _by_seen(per_unit: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    size = {name: len(members(name)) for name in per_unit["perturbation"].unique()}
    table = per_unit.assign(members=per_unit["perturbation"].map(size))
    if table["members"].max() < 2:
        return pd.DataFrame()
    return _aggregate(table, ["model", "metric", "members", "seen"], n_resamples, seed)


def _difference(gap: Interval) -> Difference:
    alone = gap.n_clusters == 1
    over = f"{gap.n} contexts and folds of one perturbation" if alone else f"{gap.n_clusters} perturbations"
    return Difference(gap.mean, gap.low, gap.high, gap.n if alone else gap.n_clusters, over)
