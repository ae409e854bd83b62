"""From an evaluation frame to numbers, their intervals, and a verdict in words."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pertexp.data.screens.screen import members
from pertexp.errors import RequestError, nearest
from pertexp.evaluation.frame import REPLICATE, EvaluationFrame
from pertexp.metrics.intervals import Interval, bootstrap_mean, paired_difference
from pertexp.metrics.screens import CORE

# That n differences of no sign of their own all point one way has chance 2^(1 - n): 3 % at 6, but 6 % at 5, and an
# interval from so few resamples little else.
FEWEST = 6
NO_REPLICATE = f"{REPLICATE}: not available, the data hold no cells to split into two halves"


@dataclass(frozen=True, eq=False)
class Scores:
    """Every metric of every prediction.

    Attributes
    ----------
    per_unit
        Long table: model, metric, perturbation, context, fold, seen, value (NaN where not applicable).
    aggregate
        One row per model and metric: mean, low, high, n, n_perturbations, n_left_out, best, worst.
    by_seen
        The same per number of members and of seen members; empty where the frame holds no combination.
    scale
        Scale of the profiles, as declared.
    notes
        What is absent, and why.
    n_resamples, seed
        Of the bootstrap.
    """

    per_unit: pd.DataFrame
    aggregate: pd.DataFrame
    by_seen: pd.DataFrame
    scale: str
    notes: tuple[str, ...]
    n_resamples: int
    seed: int

    @property
    def models(self) -> tuple[str, ...]:
        """Scored names in the order of the frame: the model, the baselines, the replicate."""
        return tuple(self.aggregate["model"].unique())

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the order of the table."""
        return tuple(self.aggregate["metric"].unique())

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

    def write(self, folder: str | Path) -> None:
        """Write `metrics.parquet` (per unit) and `metrics.json` (aggregates), each whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._summary_document(), indent=1, allow_nan=False)
        _replace(folder / "metrics.parquet", lambda path: self.per_unit.to_parquet(path, index=False))
        _replace(folder / "metrics.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def _summary_document(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "bootstrap": {"n_resamples": self.n_resamples, "seed": self.seed, "level": 0.95},
            "notes": list(self.notes),
            "aggregate": _records(self.aggregate),
            "by_seen": _records(self.by_seen),
        }


def score(frame: EvaluationFrame, n_resamples: int = 2000, seed: int = 0) -> Scores:
    """Score every prediction of the frame, and the replicate where there is one, on every `core` metric."""
    per_unit = pd.concat([_measure(frame, model) for model in frame.models], ignore_index=True)
    notes = () if frame.replicate is not None else (NO_REPLICATE,)
    aggregate = _aggregate(per_unit, ["model", "metric"], n_resamples, seed)
    by_seen = _by_seen(per_unit, n_resamples, seed)
    return Scores(per_unit, aggregate, by_seen, frame.scale, notes, n_resamples, seed)


def verdict(
    scores: Scores,
    model: str,
    primary: str = "pearson_delta",
    others: Sequence[str] = ("pearson_delta_mean", "mse", "discrimination_cosine"),
) -> list[str]:
    """Say for each main metric, the primary one first, whether the model beats the best baseline.

    The best baseline is the one of best mean on that metric, the first of those that tie. The replicate is none: it
    says how well the data agree with themselves.
    """
    for name, known in ((model, scores.models), *((metric, scores.metrics) for metric in (primary, *others))):
        if name not in known:
            raise RequestError(f"{name!r} was not scored; {nearest(name, known)}")
    baselines = [name for name in scores.models if name not in (model, REPLICATE)]
    if not baselines:
        return [f"No baseline was scored beside {model}: nothing can be said about it."]
    chosen = [primary, *(metric for metric in others if metric != primary)]
    return [_sentence(scores, model, baselines, metric) for metric in chosen]


def _measure(frame: EvaluationFrame, model: str) -> pd.DataFrame:
    views = [frame.scored(model, split) for split in range(frame.n_splits if model == REPLICATE else 1)]
    units = pd.DataFrame(
        {
            "perturbation": list(frame.perturbation),
            "context": list(frame.context),
            "fold": frame.fold,
            "seen": frame.seen,
        }
    )
    parts = []
    for metric in CORE.values():
        part = units.assign(value=np.mean([metric.function(view) for view in views], axis=0))
        part.insert(0, "metric", metric.name)
        part.insert(0, "model", model)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _aggregate(table: pd.DataFrame, keys: list[str], n_resamples: int, seed: int) -> pd.DataFrame:
    records = []
    for group, part in table.groupby(keys, sort=False):
        named = dict(zip(keys, group, strict=True))
        metric = CORE[str(named["metric"])]
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


def _best_baseline(scores: Scores, baselines: list[str], metric: str) -> str:
    sign = 1.0 if CORE[metric].higher_is_better else -1.0
    means = {name: sign * float(scores.summary(name, metric)["mean"]) for name in baselines}
    best = max(means.values())
    return next(name for name, mean in means.items() if ties(mean, best))


def ties(a: float, b: float) -> bool:
    """Whether two means differ by rounding alone."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _sentence(scores: Scores, model: str, baselines: list[str], metric: str) -> str:
    if scores.summary(model, metric)["n"] == 0:
        return f"{metric} is not applicable here: {CORE[metric].not_applicable}."
    best = _best_baseline(scores, baselines, metric)
    gap = scores.difference(model, best, metric)
    if _clusters(gap) < FEWEST:
        said = f"{model} against {best} on {metric}: difference {_number(gap.mean, '+')} over {_counted(gap)}"
        return f"{said}, too few to decide (fewer than {FEWEST}); pool folds with -m data.split.fold=0,1,..."
    interval = f"[{_number(gap.low)}, {_number(gap.high)}] over {_counted(gap)}"
    claim, ending = _claim(gap, CORE[metric].higher_is_better)
    return f"{model} {claim} {best} on {metric}: difference {_number(gap.mean, '+')} {interval}{ending}."


def _clusters(gap: Interval) -> int:
    return gap.n if gap.n_perturbations == 1 else gap.n_perturbations


def _claim(gap: Interval, higher_is_better: bool) -> tuple[str, str]:
    if not gap.excludes_zero:
        return "does not beat", "; the two cannot be told apart"
    return ("beats", "") if (gap.mean > 0) == higher_is_better else ("is worse than", "")


def _counted(gap: Interval) -> str:
    if gap.n_perturbations == 1:
        return f"{gap.n} contexts and folds of one perturbation"
    return f"{gap.n_perturbations} perturbations"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if value == 0 or 0.01 <= abs(value) < 1e4 else f"{value:{sign}.2g}"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; what JSON cannot say (NaN, an infinite worst) becomes null."""
    return [{str(key): _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    half = Path(name)
    try:
        write(half)
        # mkstemp makes files that only their owner can read; results are for the group.
        half.chmod(0o644)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
