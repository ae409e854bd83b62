"""Losses on counts. One function with `@count_loss` is one loss.

Every loss takes `(counts [B, G], log_mu [B, G], theta [G], cells [B])` and returns `[B, G]`. Row b is a
single cell (cells[b] = 1) or the sum of n = cells[b] cells: then counts are summed, log_mu is the log of the
expected sum, and the dispersion is n theta (independent cells of equal mean). sum(loss) / sum(cells) is a
loss per cell. The mean squared error of counts is `pertexp.losses.squared_error`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pertexp.losses.contract import CountPrediction, Loss
from pertexp.nn import negative_binomial as likelihood

Elementwise = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class CountLoss(Loss[CountPrediction]):
    """A loss on counts that states what it needs, and whether it identifies dispersions.

    Attributes
    ----------
    name
        As on the command line.
    compute
        `(counts [B, G], log_mu [B, G], theta [G], cells [B]) -> [B, G]`.
    identifies_theta
        Whether its minimum determines the dispersion theta.
    scale
        Scale of the data that it is written for.
    given_theta
        What is left of it where theta is fixed and constants are dropped; the loss itself where None.
    """

    name: str
    compute: Elementwise
    identifies_theta: bool = False
    scale: str = "counts"
    given_theta: Elementwise | None = None
    needs: ClassVar[frozenset[str]] = frozenset({"counts", "log_mu", "theta", "cells", "theta_fixed"})  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.compute.__doc__)
        object.__setattr__(self, "__module__", self.compute.__module__)

    def __call__(self, counts: Tensor, log_mu: Tensor, theta: Tensor, cells: Tensor) -> Tensor:
        """Return the loss of every row and gene, `[B, G]`."""
        return self.compute(counts, log_mu, theta, cells)

    def batch_loss(self, given: CountPrediction) -> Tensor:
        """Return the mean over cells and genes of a batch, a scalar; without terms of θ alone where θ is fixed."""
        compute = self.at_fixed_theta() if given.theta_fixed else self.compute
        loss = compute(given.counts, given.log_mu, given.theta, given.cells)
        return loss.sum() / (given.cells.sum() * loss.shape[1])

    def at_fixed_theta(self) -> Elementwise:
        """Return the same loss without terms that depend on theta alone: same gradients in log_mu, less work."""
        return self.given_theta or self.compute

    def __reduce__(self) -> str:
        # Pickled by name, as a function is: the function itself is no longer reachable under its name.
        return self.name


def count_loss(
    *, identifies_theta: bool = False, given_theta: Elementwise | None = None
) -> Callable[[Elementwise], CountLoss]:
    """Turn a function into a `CountLoss` of its name."""
    return lambda compute: CountLoss(compute.__name__, compute, identifies_theta, given_theta=given_theta)


def _half_deviance(counts: Tensor, log_mu: Tensor, theta: Tensor, cells: Tensor) -> Tensor:
    return likelihood.nb_deviance(counts, log_mu, _summed_theta(theta, cells)) / 2


@count_loss(identifies_theta=True, given_theta=_half_deviance)
def nb(counts: Tensor, log_mu: Tensor, theta: Tensor, cells: Tensor) -> Tensor:
    """Negative log likelihood of the negative binomial, in nats.

    Where theta is fixed the saturated term is a constant, and `nb.at_fixed_theta()` is half the deviance alone.
    """
    saturated = likelihood.nb_saturated_log_prob(counts, _summed_theta(theta, cells))
    return _half_deviance(counts, log_mu, theta, cells) - saturated


@count_loss()
def nb_deviance(counts: Tensor, log_mu: Tensor, theta: Tensor, cells: Tensor) -> Tensor:
    """Compute the unit deviance of the negative binomial at the given theta.

    It falls to 0 as theta -> 0 whatever the mean, so theta gets no gradient from it.
    """
    return likelihood.nb_deviance(counts, log_mu, _summed_theta(theta.detach(), cells))


@count_loss()
def poisson_deviance(counts: Tensor, log_mu: Tensor, theta: Tensor, cells: Tensor) -> Tensor:  # noqa: ARG001
    """Compute the unit deviance of the Poisson; theta is not used."""
    return likelihood.poisson_deviance(counts, log_mu)


@count_loss()
def mse_log1p(counts: Tensor, log_mu: Tensor, theta: Tensor, cells: Tensor) -> Tensor:  # noqa: ARG001
    """Return the squared error of log1p of the mean per cell, n (log1p(y/n) - log1p(mu/n))².

    log1p is concave, so on single cells the minimum lies below the mean: 0.71 for mu = 1, 3.67 for mu = 5 and
    15.1 for mu = 20 at theta = 2. Use it on pseudo-bulk rows, where the bias falls as 1/n.
    """
    observed = torch.log1p(counts / cells[:, None])
    expected = functional.softplus(_per_cell(log_mu, cells))
    return cells[:, None] * (observed - expected).square()


@count_loss()
def mse_anscombe(counts: Tensor, log_mu: Tensor, theta: Tensor, cells: Tensor) -> Tensor:  # noqa: ARG001
    """Return the squared error after Anscombe's Poisson transform 2 sqrt(y + 3/8) of the mean per cell, times n.

    The root is concave, so on single cells the minimum lies below the mean: 0.77 for mu = 1, 4.20 for mu = 5
    and 17.5 for mu = 20 at theta = 2. Use it on pseudo-bulk rows, where the bias falls as 1/n.
    """
    observed = 2 * torch.sqrt(counts / cells[:, None] + 0.375)
    expected = 2 * torch.sqrt(_per_cell(log_mu, cells).exp() + 0.375)
    return cells[:, None] * (observed - expected).square()


def _summed_theta(theta: Tensor, cells: Tensor) -> Tensor:
    return cells[:, None] * theta


def _per_cell(log_mu: Tensor, cells: Tensor) -> Tensor:
    return log_mu - torch.log(cells)[:, None]
