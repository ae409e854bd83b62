"""The loss of GEARS: autofocus on large errors, and the direction of change (Roohani et al. 2023, Eq. 5 to 8)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pertexp.config.errors import RequestError
from pertexp.losses.contract import Loss, ProfilePrediction

Direction = Literal["sign", "tanh"]
Uncertainty = Literal["none", "ranking", "gaussian"]


@dataclass(frozen=True)
class GearsLoss(Loss[ProfilePrediction]):
    """Autofocus and direction, a mean over the conditions of a batch of the mean over their cells and genes.

        |ŷ − y|^(2+γ) + λ (d(y − c) − d(ŷ − c))²,    c the mean of control cells, d = sign or tanh.

    Every condition of a batch weighs the same, whatever its number of cells.

    Attributes
    ----------
    gamma
        γ ≥ 0 of the autofocus exponent.
    direction
        `sign` as released: its gradient is zero, so it changes the value alone. `tanh` has one.
    direction_weight
        λ ≥ 0.
    uncertainty
        `none`; `ranking` as released, |ŷ − y|^(2+γ) (1 + ρ e^(−v)), which has no term against large v and so ranks
        alone; `gaussian`, ½ (v + (ŷ − y)² e^(−v)) in place of the autofocus, whose v is a log variance.
    ranking_weight
        ρ ≥ 0 of `ranking`.
    genes
        `expressed`: over the genes that any cell of the condition holds, as released; `all`.
    """

    gamma: float = 2.0
    direction: Direction = "tanh"
    direction_weight: float = 0.1
    uncertainty: Uncertainty = "none"
    ranking_weight: float = 1.0
    genes: Literal["expressed", "all"] = "expressed"
    name: str = "gears"

    def __post_init__(self) -> None:
        for option in ("gamma", "direction_weight", "ranking_weight"):
            if not getattr(self, option) >= 0:
                raise RequestError(f"loss.{option}={getattr(self, option)}: expected a number ≥ 0.")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What it reads: counted genes and log variances only where its options ask for them."""
        optional = {"counted": self.genes == "expressed", "log_variance": self.uncertainty != "none"}
        own = {name for name, needed in optional.items() if needed}
        return frozenset({"predicted", "observed", "control", "condition"} | own)

    def batch_loss(self, given: ProfilePrediction) -> Tensor:
        """Return the loss of a batch, a scalar."""
        needs, observed = self.needs, given.observed
        counted = given.counted if "counted" in needs else None
        if counted is None:
            counted = observed.new_ones((), dtype=torch.bool).expand(observed.shape)
        log_variance = given.log_variance if "log_variance" in needs else None
        return self(given.predicted, observed, given.control, given.condition, counted, log_variance)

    def __call__(
        self,
        predicted: Tensor,
        observed: Tensor,
        control: Tensor,
        condition: Tensor,
        counted: Tensor,
        log_variance: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        predicted, observed
            ŷ and y `[B, G]`.
        control
            c, `[B, G]` or `[G]`.
        condition
            `[B]` index of the condition of a cell.
        counted
            `[B, G]` true where a gene counts for the condition of the cell.
        log_variance
            v `[B, G]`; wanted where `uncertainty` is not `none`.
        """
        value = self._error(predicted - observed, log_variance)
        if self.direction_weight:
            step = torch.sign if self.direction == "sign" else torch.tanh
            value = value + self.direction_weight * (step(observed - control) - step(predicted - control)).square()
        _, place, cells = torch.unique(condition, return_inverse=True, return_counts=True)
        genes = counted.sum(dim=1).clamp_min(1)
        terms: Tensor = (cells.numel() * cells[place] * genes).to(value.dtype)
        return ((value * counted).sum(dim=1) / terms).sum()

    def _error(self, error: Tensor, log_variance: Tensor | None) -> Tensor:
        if self.uncertainty == "none" or log_variance is None:
            return self._focus(error)
        if self.uncertainty == "ranking":
            return self._focus(error) * (1 + self.ranking_weight * torch.exp(-log_variance))
        return 0.5 * (log_variance + error.square() * torch.exp(-log_variance))

    def _focus(self, error: Tensor) -> Tensor:
        """|e|^(2+γ); two squares where γ = 2, which is several times faster than a power."""
        return error.square().square() if self.gamma == 2 else error.abs().pow(2 + self.gamma)
