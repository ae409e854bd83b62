"""Squared error of whatever a model predicts."""

from typing import Protocol

from torch import Tensor

from pertexp.losses.contract import Loss


class Predicted(Protocol):
    """What every prediction offers; see `pertexp.losses.contract`."""

    @property
    def predicted(self) -> Tensor:
        """`[B]` or `[B, G]`."""

    @property
    def observed(self) -> Tensor:
        """Shaped as `predicted`."""

    @property
    def n_summed(self) -> Tensor:
        """`[B]` number of observations that a row sums."""


class SquaredError(Loss[Predicted]):
    """Mean squared error: of counts, of profiles, or of probabilities and labels (Brier 1950).

    A row that sums n cells counts as n of them: n (y/n − μ/n)² = (y − μ)²/n, added up and divided by the number of
    cells and genes. It is ruled by the largest values, and unbiased for a mean.
    """

    name = "mse"
    needs = frozenset({"predicted", "observed", "n_summed"})

    def batch_loss(self, given: Predicted) -> Tensor:
        """Return the loss of a batch, a scalar in squared units of the prediction."""
        observed, n = given.observed, given.n_summed
        value = (observed - given.predicted).square() / n.reshape(-1, *[1] * (observed.ndim - 1))
        return value.sum() / (n.sum() * observed[0].numel())
