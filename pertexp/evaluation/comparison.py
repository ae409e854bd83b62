"""Records of comparisons: paired differences with their outcomes, and the verdict on a model. No text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from pertexp.config.errors import RequestError, nearest
from pertexp.evaluation.roles import RowRoles
from pertexp.metrics.registry import METRICS
from pertexp.runs.schema import Basis, Comparison, Outcome

# That n differences of no sign of their own all point one way has chance 2^(1 - n): 3 % at 6, but 6 % at 5, and an
# interval from so few resamples means little else.
FEWEST = 6


@dataclass(frozen=True)
class Difference:
    """A paired difference of two rows on a metric, with its bootstrap interval.

    Attributes
    ----------
    mean, low, high
        One minus the other, and the ends of the interval.
    n
        Units that were resampled.
    over
        The same in words: `8 perturbations`.
    """

    mean: float
    low: float
    high: float
    n: int
    over: str

    @property
    def excludes_zero(self) -> bool:
        """The interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


class ScoredRows(Protocol):
    """Scores of several rows on the same units, whatever the task."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the rows, in order."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in order."""

    @property
    def headline(self) -> tuple[str, ...]:
        """Metrics that a verdict is about, the primary one first."""

    @property
    def untrusted(self) -> tuple[str, ...]:
        """Metrics that do not pass their calibration on this data."""

    @property
    def remedy(self) -> str:
        """What to type to have more units."""

    @property
    def aggregate(self) -> pd.DataFrame:
        """A row per model and metric: model, metric, mean, low, high, n."""

    def summary(self, model: str, metric: str) -> pd.Series:
        """Return the row of `aggregate`."""

    def difference(self, model: str, other: str, metric: str) -> Difference:
        """Return the paired difference model minus other."""


def verdict(scores: ScoredRows, roles: RowRoles, metrics: Sequence[str] | None = None) -> list[Comparison]:
    """Compare the model with the best baseline on each metric, then with itself masked.

    The best baseline is the one of best mean on that metric, the first of those that tie. Empty without a baseline.

    Parameters
    ----------
    metrics
        Default: the headline, the primary metric first.

    Raises
    ------
    RequestError
        Where the model or a metric was not scored.
    """
    chosen = scores.headline if metrics is None else tuple(metrics)
    for name, known in ((roles.model, scores.models), *((metric, scores.metrics) for metric in chosen)):
        if name not in known:
            raise RequestError(f"{name!r} was not scored; {nearest(name, known)}")
    present = roles.among(scores.models)
    found = [compare(scores, roles.model, best_baseline(scores, present, metric), metric) for metric in chosen
             if present.baselines]  # fmt: skip
    masked = [
        compare(scores, roles.model, name, metric, "masked input") for name in present.masked for metric in chosen
    ]
    return found + masked


def best_baseline(scores: ScoredRows, roles: RowRoles, metric: str) -> str:
    """Name of the baseline of best mean on a metric."""
    means = {name: float(scores.summary(name, metric)["mean"]) for name in roles.baselines}
    return best_of(means, higher_is_better=METRICS[metric].higher_is_better)


def compare(scores: ScoredRows, model: str, reference: str, metric: str, basis: Basis = "best baseline") -> Comparison:
    """Compare two rows on a metric."""
    applies = scores.summary(model, metric)["n"] > 0
    gap = scores.difference(model, reference, metric) if applies else Difference(math.nan, math.nan, math.nan, 0, "")
    outcome = outcome_of(gap, higher_is_better=METRICS[metric].higher_is_better) if applies else "not applicable"
    return Comparison(
        model=model,
        reference=reference,
        metric=metric,
        difference=gap.mean,
        low=gap.low,
        high=gap.high,
        n=gap.n,
        outcome=outcome,
        basis=basis,
        over=gap.over,
        trusted=metric not in scores.untrusted,
        remedy=scores.remedy if outcome in ("too few units", "mostly undefined") else "",
    )


def outcome_of(gap: Difference, *, higher_is_better: bool) -> Outcome:
    """Say what a difference shows; `better` is the first of the two rows."""
    if math.isnan(gap.mean):
        return "no value"
    if gap.n < FEWEST:
        return "too few units"
    if math.isnan(gap.low):
        return "mostly undefined"
    if not gap.excludes_zero:
        return "not different"
    return "better" if (gap.mean > 0) == higher_is_better else "worse"


def best_of(means: Mapping[str, float], *, higher_is_better: bool) -> str:
    """Return the name of the best mean, the first of those that tie; the first of all where none has a mean."""
    sign = 1.0 if higher_is_better else -1.0
    best = max((sign * mean for mean in means.values() if not math.isnan(mean)), default=math.nan)
    return next((name for name, mean in means.items() if ties(sign * mean, best)), next(iter(means)))


def ties(a: float, b: float) -> bool:
    """Return whether two means differ by rounding alone."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
