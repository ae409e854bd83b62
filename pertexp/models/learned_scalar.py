"""A scalar of a model that is fixed, or learned from its value."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import FiniteFloat

from pertexp.config.validate import NO_OTHERS


@dataclass(frozen=True)
class LearnedScalar:
    """A scalar that is fixed at its value, or learned from there."""

    __pydantic_config__: ClassVar = NO_OTHERS

    mode: Literal["fixed", "learned"] = "fixed"
    value: FiniteFloat = 1.0
