"""Marks that a model's design set, met or missed, with chance beside them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pertexp.models.watched import Target, Watched


@dataclass(frozen=True)
class Mark:
    """A target and what became of it.

    Attributes
    ----------
    target
        What was set.
    found
        What was found; None where it was not measured.
    """

    target: Target
    found: Watched | None

    @property
    def met(self) -> bool | None:
        """Whether the value lies between both ends; None where there is none."""
        if self.found is None or math.isnan(self.found.value):
            return None
        return self.target.low <= self.found.value <= self.target.high

    @property
    def said(self) -> str:
        """One line: met or missed, the mark, the value, and chance."""
        if self.met is None or self.found is None:
            return f"not measured: {self.target.said} ({self.target.quantity})"
        chance = "" if self.found.chance is None else f", chance {self.found.chance:.3g}"
        note = f"; {self.found.note}" if self.found.note else ""
        word = "met" if self.met else "missed"
        return f"{word}: {self.target.said} ({self.target.quantity} {self.found.value:.3g}{chance}{note})"

    def document(self) -> dict[str, Any]:
        """Plain values."""
        found = self.found or Watched(math.nan)
        return {
            **vars(self.target), "value": found.value, "chance": found.chance, "met": self.met, "note": found.note,
        }  # fmt: skip


def marks_of(targets: Iterable[Target], known: Mapping[str, Watched]) -> list[Mark]:
    """Every target against the quantity that it names."""
    return [Mark(target, known.get(target.quantity)) for target in targets]
