"""Success criteria of a model's design: passed, failed, or not measured."""

import math
from collections.abc import Iterable, Mapping

from pertexp.models.protocols import Target
from pertexp.runs.schema import Diagnostic, SuccessCriterion


def criteria_of(targets: Iterable[Target], known: Mapping[str, Diagnostic]) -> list[SuccessCriterion]:
    """Compare every target with the quantity that it names."""
    return [_criterion(target, known.get(target.quantity)) for target in targets]


def _criterion(target: Target, found: Diagnostic | None) -> SuccessCriterion:
    if found is None or math.isnan(found.value):
        return SuccessCriterion(target.quantity, target.said, None, target.low, target.high)
    passed = target.low <= found.value <= target.high
    ends = target.low, target.high
    return SuccessCriterion(target.quantity, target.said, passed, *ends, found.value, found.chance, found.note)
