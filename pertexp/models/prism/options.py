"""Options of PRISM (`model.*`)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pertexp.config.errors import RequestError
from pertexp.config.validate import NO_OTHERS
from pertexp.models.prism.energy import EnergyOptions

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Term:
    """A term of the loss: its weight when the environment becomes active, `ramp` more each epoch, up to `cap`.

    A weight of 0 leaves the term out, whatever its ramp.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    weight: NotNegative = 0.0
    ramp: NotNegative = 0.0
    cap: NotNegative = 0.0

    def at(self, epoch: int) -> float:
        """Return the weight so many epochs after the environment became active."""
        return min(self.weight + self.ramp * epoch, max(self.cap, self.weight)) if self.weight else 0.0


@dataclass(frozen=True)
class Contrast(Term):
    """InfoNCE on e, at temperature τ."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1


@dataclass(frozen=True)
class Sparse(Term):
    """Of z_I and z_E."""

    norm: Literal["l1", "l2"] = "l1"


@dataclass(frozen=True)
class Prototype(Term):
    """Squared distance of e to its line's running mean, which keeps the share `momentum` of itself a step."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


@dataclass(frozen=True)
class TermOptions:
    """All terms; start weights, ramps and caps are those of the design of PRISM."""

    __pydantic_config__: ClassVar = NO_OTHERS

    correlation: Term = field(default_factory=lambda: Term(0.1, 0.01, 0.2))
    invariance: Term = field(default_factory=lambda: Term(0.1, 0.01, 0.2))
    contrastive: Contrast = field(default_factory=lambda: Contrast(0.05, 0.01, 0.1))
    sparsity: Sparse = field(default_factory=lambda: Sparse(0.01, 0.01, 0.02))
    prototype: Prototype = field(default_factory=lambda: Prototype(0.05, 0.01, 0.1))
    mutual_information: Term = field(default_factory=lambda: Term(0.0, 0.01, 0.2))

    def __iter__(self) -> Iterator[tuple[str, Term]]:
        return ((one.name, getattr(self, one.name)) for one in fields(self))

    @property
    def weighted(self) -> list[str]:
        """Names of the terms that are not left out."""
        return [name for name, term in self if term.weight]


@dataclass(frozen=True)
class PrismOptions:
    """Everything that `model.*` sets but the backbone; the group's YAML file says what each is for."""

    __pydantic_config__: ClassVar = NO_OTHERS

    name: str = "prism"
    invariant_width: Count = 64
    environment_width: Count = 32
    energy: EnergyOptions = field(default_factory=EnergyOptions)
    terms: TermOptions = field(default_factory=TermOptions)
    queue: Annotated[int, Field(ge=0)] = 256

    def require_support(self, support_size: int) -> None:
        """RequestError where the energy looks at z_E and there are no support sets to make it of."""
        energy = self.energy
        looks = energy.form == "linear" or energy.resistance != "none" or energy.temperature.mode == "per_line"
        if looks and not support_size:
            raise RequestError(
                "data.support_size=0 leaves nothing to tell a cell line by: type data.support_size=32, or "
                "model.energy.resistance=none for a model without environment."
            )

    def require_lines(self, n_lines: int, lines_per_step: int) -> None:
        """RequestError where a weighted term could only be constant: with one line there is nothing to tell apart."""
        alone = n_lines < 2
        if not alone and (lines_per_step > 1 or self.queue):
            return
        constant = [name for name in _WHY if name in self.terms.weighted]
        if not constant:
            return
        where = "with one training line" if alone else "in batches of one line"
        instead = "train on more lines" if alone else "type data.lines_per_step=2 or model.queue=256"
        reasons = "; ".join(f"{name}: {_WHY[name]}" for name in constant)
        words = " ".join(f"model.terms.{name}.weight=0" for name in constant)
        raise RequestError(f"A weighted term has no effect {where} ({reasons}): {instead}, or type {words}.")


_WHY = {
    "invariance": "a classifier that sees one class a step is right without looking",
    "contrastive": "without a pair of another line its fraction is 1, and the loss log 1 = 0",
}
