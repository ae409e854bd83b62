"""Counts drawn from means and dispersions."""

from typing import Literal

import torch
from torch import Tensor

from pertexp.config.errors import RequestError, nearest

Sampler = Literal["poisson", "nb", "gp_mixture"]

_POISSON_FROM = 1e6
_MANY_CLUSTERS = 8.0


def sample_counts(
    mu: Tensor,
    theta: Tensor,
    sampler: Sampler = "nb",
    generator: torch.Generator | None = None,
    heterogeneity: float | None = None,
) -> Tensor:
    """Draw counts with mean mu, in the shape and dtype of `mu`.

    `nb` and `gp_mixture` have the same law, variance mu + mu²/theta, by two constructions. `gp_mixture` draws
    a rate from Gamma(theta, theta/mu), then a Poisson count. `nb` draws a Poisson number of clusters, each of
    logarithmic size (Quenouille 1949), which needs no rate and so stays exact where a Gamma of tiny
    shape underflows; where more than 8 clusters are expected it uses the mixture, to bound memory.

    Parameters
    ----------
    mu
        `[..., G]` expected counts, >= 0; a row is a cell.
    theta
        Dispersion, > 0, broadcast to `mu`; not used by `poisson`.
    sampler
        `poisson` (variance mu), `nb` or `gp_mixture`.
    generator
        On the device of `mu`; every draw comes from it.
    heterogeneity
        r0: each cell's means are first multiplied by one Gamma(r0, r0) factor, of mean 1 and variance 1/r0.

    Raises
    ------
    RequestError
        If the sampler is unknown or r0 is not positive.
    """
    if sampler not in _SAMPLERS:
        raise RequestError(
            f"sampler is {sampler!r}, which draws no counts; {nearest(sampler, _SAMPLERS)} "
            f"Type sampler={' or sampler='.join(_SAMPLERS)}."
        )
    if heterogeneity is not None:
        mu = mu * _cell_factor(mu, heterogeneity, generator)
    return _SAMPLERS[sampler](mu, theta.to(mu.dtype).expand_as(mu), generator)


def _cell_factor(mu: Tensor, shape: float, generator: torch.Generator | None) -> Tensor:
    if not shape > 0:
        raise RequestError(
            f"heterogeneity is {shape}, where the shape r0 of a Gamma(r0, r0) factor was expected: type a "
            "positive number such as 50, or null for none."
        )
    return torch._standard_gamma(mu.new_full((*mu.shape[:-1], 1), shape), generator=generator) / shape


def _poisson(mu: Tensor, theta: Tensor, generator: torch.Generator | None) -> Tensor:  # noqa: ARG001
    return torch.poisson(mu, generator=generator)


def _gamma_poisson(mu: Tensor, theta: Tensor, generator: torch.Generator | None) -> Tensor:
    # Gamma(theta, 1) scaled by mu/theta: a rate theta/mu would overflow as mu -> 0.
    shape = theta.clamp(max=_POISSON_FROM)
    rate = torch._standard_gamma(shape, generator=generator) * (mu / shape)
    return torch.poisson(torch.where(theta > _POISSON_FROM, mu, rate), generator=generator)


def _clusters(mu: Tensor, theta: Tensor, generator: torch.Generator | None) -> Tensor:
    failure = torch.log1p(mu.double() / theta.double()).flatten()
    expected = failure * theta.double().flatten()
    crowded = expected > _MANY_CLUSTERS
    number = torch.poisson(expected.masked_fill(crowded, 0.0), generator=generator).long()
    entry = torch.repeat_interleave(number)
    size = _logarithmic(failure[entry], generator)
    counts = torch.zeros_like(expected).index_add_(0, entry, size).to(mu.dtype)
    counts[crowded] = _gamma_poisson(mu.flatten()[crowded], theta.flatten()[crowded], generator)
    return counts.view(mu.shape)


def _logarithmic(failure: Tensor, generator: torch.Generator | None) -> Tensor:
    """Logarithmic series of parameter 1 - exp(-failure), as a mixture of geometrics (Kemp 1981)."""
    uniform = torch.rand((2, *failure.shape), generator=generator, dtype=failure.dtype, device=failure.device)
    log_ratio = torch.log1p(-torch.exp(-failure * uniform[0]))
    return 1 + torch.floor(torch.log1p(-uniform[1]) / log_ratio)


_SAMPLERS = {"poisson": _poisson, "nb": _clusters, "gp_mixture": _gamma_poisson}
