"""Comparisons as sentences, the same for the console and for pages."""

import math
from collections.abc import Mapping, Sequence

from pertexp.evaluation.comparison import FEWEST
from pertexp.metrics.registry import METRICS
from pertexp.runs.schema import Comparison, SuccessCriterion

_BEATS = {"better": "beats", "worse": "is worse than", "not different": "does not beat"}


def sentence(found: Comparison) -> str:
    """Say what a comparison with a baseline, or with a masked model, shows."""
    if found.outcome == "not applicable":
        return f"{found.metric} is not applicable here: {METRICS[found.metric].missing}."
    if found.outcome == "no value":
        return f"{found.reference} has no value on {found.metric} where {found.model} has one: they cannot be compared."
    if found.outcome in _BEATS:
        mark = "" if found.trusted else " (not to be trusted here: see the marks)"
        ending = "; the two cannot be told apart" if found.outcome == "not different" else ""
        start = f"{found.model} {_BEATS[found.outcome]} {found.reference} on {found.metric}{mark}"
        return f"{start}: difference {interval_text(found)} over {found.over}{ending}."
    why = f"fewer than {FEWEST}" if found.outcome == "too few units" else "most resamples have no value"
    start = f"{found.model} compared with {found.reference} on {found.metric}: difference"
    return f"{start} {short(found.difference, '+')} over {found.over}, too few to decide ({why}); {found.remedy}"


def verdict_sentences(model: str, verdict: Sequence[Comparison], not_counted: Mapping[str, str]) -> list[str]:
    """Say a verdict, then which baselines are not counted."""
    said = [sentence(found) for found in verdict]
    if not any(found.basis == "best baseline" for found in verdict):
        said.insert(0, no_baseline(model))
    return said + [f"{name} is shown and not counted: {why}." for name, why in not_counted.items()]


def no_baseline(model: str) -> str:
    """Say that there is nothing to compare a model with."""
    return f"No baseline was scored with {model}: nothing can be said about it."


def outcome_words(found: Comparison) -> str:
    """Say an outcome in two or three words, for a table."""
    return {
        "not different": "cannot be told apart",
        "too few units": "too few to decide",
        "mostly undefined": "too few to decide",
    }.get(found.outcome, found.outcome)


def interval_text(found: Comparison) -> str:
    """`+0.052 [0.041, 0.063]`; the difference alone where there is no interval."""
    if math.isnan(found.low):
        return short(found.difference, "+")
    return f"{short(found.difference, '+')} [{short(found.low)}, {short(found.high)}]"


def criterion_text(criterion: SuccessCriterion) -> str:
    """Say a success criterion in one line: passed or failed, the criterion, the value, and chance."""
    if criterion.passed is None:
        return f"not measured: {criterion.text} ({criterion.quantity})"
    chance = "" if criterion.chance is None else f", chance {criterion.chance:.3g}"
    note = f"; {criterion.note}" if criterion.note else ""
    word = "pass" if criterion.passed else "fail"
    return f"{word}: {criterion.text} ({criterion.quantity} {criterion.value:.3g}{chance}{note})"


def short(value: float, sign: str = "") -> str:
    """Return a number with three decimals, or two digits where it is small."""
    if math.isnan(value):
        return "n/a"
    return f"{value:{sign}.3f}" if value == 0 or 0.01 <= abs(value) < 1e4 else f"{value:{sign}.2g}"
