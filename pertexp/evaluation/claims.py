"""What a difference between two models lets one claim, in words that the page reads back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

# That n differences of no sign of their own all point one way has chance 2^(1 - n): 3 % at 6, but 6 % at 5, and an
# interval from so few resamples little else.
FEWEST = 6


@dataclass(frozen=True)
class Difference:
    """A paired difference of two models on a metric, with its bootstrap interval.

    Attributes
    ----------
    mean, low, high
        Model minus other, and the ends of the interval.
    n_units
        Units that were resampled.
    units
        The same in words: `8 perturbations`.
    """

    mean: float
    low: float
    high: float
    n_units: int
    units: str

    @property
    def excludes_zero(self) -> bool:
        """The interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def claim(
    model: str, other: str, metric: str, gap: Difference, *, higher_is_better: bool, remedy: str, mark: str = ""
) -> str:
    """One sentence: beats, does not beat, is worse than, or too few units to decide.

    Parameters
    ----------
    remedy
        How to get more units.
    mark
        What to hold against the metric.
    """
    if gap.n_units < FEWEST or math.isnan(gap.low):
        said = f"{model} against {other} on {metric}: difference {_number(gap.mean, '+')} over {gap.units}"
        why = f"fewer than {FEWEST}" if gap.n_units < FEWEST else "most resamples have no value"
        return f"{said}, too few to decide ({why}); {remedy}"
    interval = f"[{_number(gap.low)}, {_number(gap.high)}] over {gap.units}"
    words, ending = _words(gap, higher_is_better)
    return f"{model} {words} {other} on {metric}{mark}: difference {_number(gap.mean, '+')} {interval}{ending}."


def standing(gap: Difference, *, higher_is_better: bool) -> str:
    """The same in two or three words, for a table: `better`, `worse`, or why neither can be said."""
    if gap.n_units < FEWEST or math.isnan(gap.low):
        return "too few to decide"
    if not gap.excludes_zero:
        return "cannot be told apart"
    return "better" if (gap.mean > 0) == higher_is_better else "worse"


def spanned(gap: Difference) -> str:
    """`+0.052 [0.041, 0.063]`."""
    return f"{_number(gap.mean, '+')} [{_number(gap.low)}, {_number(gap.high)}]"


def best_of(means: Mapping[str, float], *, higher_is_better: bool) -> str:
    """The name of the best mean, the first of those that tie; the first of all where none has a mean."""
    sign = 1.0 if higher_is_better else -1.0
    best = max((sign * mean for mean in means.values() if not math.isnan(mean)), default=math.nan)
    return next((name for name, mean in means.items() if ties(sign * mean, best)), next(iter(means)))


def ties(a: float, b: float) -> bool:
    """Whether two means differ by rounding alone."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _words(gap: Difference, higher_is_better: bool) -> tuple[str, str]:
    if not gap.excludes_zero:
        return "does not beat", "; the two cannot be told apart"
    return ("beats", "") if (gap.mean > 0) == higher_is_better else ("is worse than", "")


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if value == 0 or 0.01 <= abs(value) < 1e4 else f"{value:{sign}.2g}"
