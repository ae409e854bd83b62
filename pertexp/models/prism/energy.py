"""The energy of a pair in a cell line, and the temperature that scales it.

logit P(y = 1) = (U_I − R_E + λ U_I R_E) / T
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pertexp.config.errors import RequestError
from pertexp.config.validate import NO_OTHERS
from pertexp.models.learned_scalar import LearnedScalar

Resistance = Literal["line", "sample", "none"]
START = 0.0  # of what softplus turns into R_E: 0.69


@dataclass(frozen=True)
class Temperature:
    """T: `fixed` at `value`, `learned` from it, or `per_line`: read off z_E, so that an unseen line has one, too.

    With both bounds T stays between them. `l2` weighs the penalty on t, which is 0 at the start.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    mode: Literal["fixed", "learned", "per_line"] = "learned"
    value: float = 1.0
    low: float | None = None
    high: float | None = None
    l2: float = 0.0

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise RequestError("model.energy.temperature has one bound: give both, low and high, or none.")
        low, high = (0.0, math.inf) if self.low is None or self.high is None else (self.low, self.high)
        if not 0 <= low < high:
            raise RequestError(
                f"model.energy.temperature.low={low:g} and high={high:g}: expected 0 or more, and more, as in "
                "low=0.5 high=2.0."
            )
        if not low < self.value < high:
            raise RequestError(
                f"model.energy.temperature.value={self.value}: expected a number between {low:g} and {high:g}."
            )
        if not 0 <= self.l2 < math.inf:
            raise RequestError(f"model.energy.temperature.l2={self.l2}: expected 0 or more.")

    def of(self, t: Tensor) -> Tensor:
        """T of t, equal to `value` at t = 0: value · softplus(t + ln(e − 1)), or a sigmoid between the bounds."""
        if self.low is None or self.high is None:
            return self.value * functional.softplus(t + math.log(math.e - 1))
        share = (self.value - self.low) / (self.high - self.low)
        return self.low + (self.high - self.low) * torch.sigmoid(t + math.log(share / (1 - share)))


@dataclass(frozen=True)
class EnergyOptions:
    """Everything that `model.energy.*` sets.

    Attributes
    ----------
    form
        `interaction`, as above; `linear`: (U_I + λ_U U_I · z_E + λ_R z_E) / T, with vectors λ_U and λ_R.
    resistance
        What R_E depends on: the `line` alone, the `sample` too, or `none`: R_E = 0, no environment.
    keep_order
        Let 1 + λ R_E never fall below 0, where the ranking within a line would turn around: 1 + elu(λ R_E).
    lam, temperature
        λ and T.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    form: Literal["interaction", "linear"] = "interaction"
    resistance: Resistance = "sample"
    keep_order: bool = False
    lam: LearnedScalar = field(default_factory=lambda: LearnedScalar("learned", 0.1))
    temperature: Temperature = field(default_factory=Temperature)

    def __post_init__(self) -> None:
        if self.form == "interaction":
            return
        idle = {
            f"resistance={self.resistance}": self.resistance != "sample",
            "keep_order=true": self.keep_order,
            "lam.mode=fixed": self.lam.mode == "fixed",
        }
        for option in (name for name, given in idle.items() if given):
            raise RequestError(
                f"model.energy.{option} has no effect with model.energy.form=linear, which has vectors that are "
                "learned in place of λ and R_E: leave one of them out."
            )


class Energy(nn.Module):
    """From U_I, e and z_E to logits.

    With R_E a function of the line alone the logit is affine in U_I within a line: the environment can then move
    calibration and what is pooled over lines, never the ranking within a line.

    Parameters
    ----------
    options
        As configured.
    width
        d_E, of e and z_E.
    """

    t: Tensor
    lam: Tensor

    def __init__(self, options: EnergyOptions, held: int, width: int) -> None:
        super().__init__()
        self.options = options
        self._scalar("lam", options.lam.value, learned=options.lam.mode == "learned")
        self._scalar("t", 0.0, learned=options.temperature.mode == "learned")
        if options.temperature.mode == "per_line":
            self.read_t = nn.Linear(width, 1)
            nn.init.zeros_(self.read_t.weight)
            nn.init.zeros_(self.read_t.bias)
        if options.form == "linear":
            self.turn, self.shift = nn.Linear(width, 1, bias=False), nn.Linear(width, 1, bias=False)
            nn.init.constant_(self.turn.weight, options.lam.value / width)
            nn.init.zeros_(self.shift.weight)
        elif options.resistance != "none":
            self.resistance = {"line": _OfLine, "sample": _OfSample}[options.resistance](held, width)

    def _scalar(self, name: str, value: float, *, learned: bool) -> None:
        start = torch.tensor(value)
        if learned:
            self.register_parameter(name, nn.Parameter(start))
        else:
            self.register_buffer(name, start)

    @property
    def has_environment(self) -> bool:
        """Whether z_E is looked at."""
        options = self.options
        return options.form == "linear" or options.resistance != "none" or options.temperature.mode == "per_line"

    def forward(self, potential: Tensor, own: Tensor | None, line: Tensor | None) -> "Reading":
        """Return logits of pairs.

        Parameters
        ----------
        potential
            U_I `[n]`.
        own, line
            e and z_E `[n, width]`; None until the environment is active: R_E = 0 and λ = 0.
        """
        nothing = torch.zeros_like(potential)
        if line is None or own is None:
            return Reading(potential / self._temperature(None), nothing, self._temperature(None).expand_as(potential))
        temperature = self._temperature(line).expand_as(potential)
        if self.options.form == "linear":
            turned = potential * (1 + self.turn(line)[:, 0]) + self.shift(line)[:, 0]
            return Reading(turned / temperature, nothing, temperature)
        resistance = nothing if self.options.resistance == "none" else self.resistance(own, line)
        return Reading((potential * self._factor(resistance) - resistance) / temperature, resistance, temperature)

    def penalty(self, line: Tensor | None) -> Tensor:
        """l2 · t², mean over pairs, of the `line` that the logits were read with."""
        if not self.options.temperature.l2:
            return self.t.new_zeros(())
        return self.options.temperature.l2 * self._t(line).square().mean()

    def _factor(self, resistance: Tensor) -> Tensor:
        turned = self.lam * resistance
        return 1 + (functional.elu(turned) if self.options.keep_order else turned)

    def _temperature(self, line: Tensor | None) -> Tensor:
        return self.options.temperature.of(self._t(line))

    def _t(self, line: Tensor | None) -> Tensor:
        per_line = self.options.temperature.mode == "per_line" and line is not None
        return self.read_t(line)[:, 0] if per_line else self.t


@dataclass(frozen=True)
class Reading:
    """Logits, R_E and T `[n]`."""

    logit: Tensor
    resistance: Tensor
    temperature: Tensor


class _OfLine(nn.Module):
    """R_E = softplus(g_E(z_E))."""

    def __init__(self, held: int, width: int) -> None:  # noqa: ARG002
        super().__init__()
        self.line, self.out = nn.Linear(width, width), nn.Linear(width, 1)
        nn.init.constant_(self.out.bias, START)

    def forward(self, own: Tensor, line: Tensor) -> Tensor:  # noqa: ARG002
        """Return `[n]`, 0 or more."""
        return functional.softplus(self.out(functional.gelu(self.line(line)))[:, 0])


class _OfSample(nn.Module):
    """R_E = softplus(g_E(e, z_E, A e ∘ B z_E)): products model how a cell line changes the effect of e."""

    def __init__(self, held: int, width: int) -> None:
        super().__init__()
        self.own, self.line = nn.Linear(held, held), nn.Linear(width, held)
        self.out = nn.Linear(2 * held + width, 1)
        nn.init.constant_(self.out.bias, START)

    def forward(self, own: Tensor, line: Tensor) -> Tensor:
        """Return `[n]`, 0 or more."""
        turned = self.own(own) * self.line(line)
        return functional.softplus(self.out(torch.cat([own, line, turned], dim=1))[:, 0])
