"""What a model of pairs watches beside its score, and the marks that its design set for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pertexp.runs.schema import Diagnostic as Watched


@dataclass(frozen=True)
class Target:
    """A mark: where a quantity should lie.

    Attributes
    ----------
    quantity
        The name of a watched value, or one of `train/auprc`, `gap`, `test/auprc`, `test/recall`, `test/precision`.
    low, high
        Both ends belong to it; an infinite one is open.
    said
        The mark in words.
    """

    quantity: str
    low: float
    high: float
    said: str


@runtime_checkable
class Watches(Protocol):
    """A model that says what it watches."""

    def watched(self, data: Any) -> Mapping[str, Watched]:
        """Quantities by name, measured on the data that it was trained on."""


@runtime_checkable
class HasTargets(Protocol):
    """A model whose design set marks."""

    targets: tuple[Target, ...]
