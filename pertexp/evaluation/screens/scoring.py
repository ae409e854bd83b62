"""From what was measured to means, their intervals, their calibration, and a verdict in words."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertexp.data.screens.screen import members
from pertexp.errors import RequestError, nearest
from pertexp.evaluation.claims import Difference, best_of, claim
from pertexp.evaluation.screens.frame import REPLICATE
from pertexp.evaluation.screens.measuring import Measured
from pertexp.metrics.calibration import TRUSTED, calibrated
from pertexp.metrics.intervals import Interval, bootstrap_mean, bootstrap_median, paired_difference
from pertexp.metrics.registry import METRICS
from pertexp.runs.record import whole

REMEDY = "pool folds with -m data.split.fold=0,1,..."


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

    @classmethod
    def of(cls, measured: Measured, primary: str | None = None, n_resamples: int = 2000, seed: int = 0) -> "Scores":
        """Aggregate, with bootstrap intervals over perturbations; the first headline is the default primary metric."""
        names = list(measured.per_unit["metric"].unique())
        chosen = primary or next((name for name in names if METRICS[name].level == "headline"), names[0])
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
        """What is absent, and why."""
        return self.measured.notes

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
        """Units of one model and metric, in the order of the frame."""
        table = self.per_unit
        return table[(table["model"] == model) & (table["metric"] == metric)]

    def summary(self, model: str, metric: str) -> pd.Series:
        """Aggregate row of one model and metric."""
        table = self.aggregate
        return table[(table["model"] == model) & (table["metric"] == metric)].iloc[0]

    def difference(self, model: str, other: str, metric: str) -> Interval:
        """Paired difference model - other, with its bootstrap interval."""
        a, b = self.rows(model, metric), self.rows(other, metric)
        names = a["perturbation"].to_numpy(dtype=str)
        left, right = a["value"].to_numpy(dtype=float), b["value"].to_numpy(dtype=float)
        return paired_difference(left, right, names, self.n_resamples, self.seed)

    def write(self, folder: str | Path, said: Mapping[str, Any] | None = None) -> None:
        """Write `metrics.parquet` and `calibration.parquet` (per unit), then `metrics.json` (aggregates), each whole.

        `said` is put into metrics.json as it is.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._summary_document() | dict(said or {}), indent=1, allow_nan=False)
        for name, table in (("metrics", self.per_unit), ("calibration", self.measured.reliability)):
            with whole(folder / f"{name}.parquet") as partial:
                table.to_parquet(partial, index=False)
        with whole(folder / "metrics.json") as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    def _summary_document(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "primary": self.primary,
            "bootstrap": {"n_resamples": self.n_resamples, "seed": self.seed, "level": 0.95},
            "notes": list(self.notes),
            "aggregate": records(self.aggregate),
            "by_seen": records(self.by_seen),
            "calibration": records(self.calibration),
        }


def verdict(scores: Scores, model: str, metrics: Sequence[str] | None = None) -> list[str]:
    """Say for each metric (default: the headline, the primary one first) whether the model beats the best baseline.

    The best baseline is the one of best mean on that metric, the first of those that tie. The replicate is none: it
    says how well the data agree with themselves.
    """
    chosen = scores.headline if metrics is None else tuple(metrics)
    for name, known in ((model, scores.models), *((metric, scores.metrics) for metric in chosen)):
        if name not in known:
            raise RequestError(f"{name!r} was not scored; {nearest(name, known)}")
    baselines = [name for name in scores.models if name not in (model, REPLICATE)]
    if not baselines:
        return [f"No baseline was scored beside {model}: nothing can be said about it."]
    return [_sentence(scores, model, baselines, metric) for metric in chosen]


def _calibration(measured: Measured, aggregate: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    mean = aggregate.set_index(["model", "metric"])["mean"]
    records = []
    for metric, part in measured.reliability.groupby("metric", sort=False):
        names = part["perturbation"].to_numpy(dtype=str)
        drf = bootstrap_median(part["drf"].to_numpy(dtype=float), names, n_resamples, seed)
        bds = bootstrap_mean(part["bds"].to_numpy(dtype=float), names, n_resamples, seed)
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
        records.append(named | asdict(interval) | {"best": metric.best, "worst": metric.worst})
    return pd.DataFrame.from_records(records)


def _by_seen(per_unit: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    size = {name: len(members(name)) for name in per_unit["perturbation"].unique()}
    table = per_unit.assign(members=per_unit["perturbation"].map(size))
    if table["members"].max() < 2:
        return pd.DataFrame()
    return _aggregate(table, ["model", "metric", "members", "seen"], n_resamples, seed)


def _sentence(scores: Scores, model: str, baselines: list[str], metric: str) -> str:
    if scores.summary(model, metric)["n"] == 0:
        return f"{metric} is not applicable here: {METRICS[metric].missing}."
    higher = METRICS[metric].higher_is_better
    means = {name: float(scores.summary(name, metric)["mean"]) for name in baselines}
    best = best_of(means, higher_is_better=higher)
    gap = over_units(scores.difference(model, best, metric))
    if gap.n_units == 0:
        return f"no baseline has a value on {metric} where {model} has one: nothing can be said of it."
    mark = " (not to be trusted here: see the marks)" if metric in scores.untrusted else ""
    return claim(model, best, metric, gap, higher_is_better=higher, remedy=REMEDY, mark=mark)


def over_units(gap: Interval) -> Difference:
    """Over perturbations; with one alone, over its contexts and folds."""
    alone = gap.n_perturbations == 1
    counted = f"{gap.n} contexts and folds of one perturbation" if alone else f"{gap.n_perturbations} perturbations"
    return Difference(gap.mean, gap.low, gap.high, gap.n if alone else gap.n_perturbations, counted)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; what JSON cannot say (NaN, an infinite worst) becomes null."""
    return [{str(key): plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def plain(value: Any) -> Any:
    """As JSON has it, nested as it is; what it cannot say (NaN, an infinite bound) becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    bare = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(bare, float) and not np.isfinite(bare) else bare
