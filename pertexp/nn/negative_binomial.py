"""Negative binomial likelihood from the log mean, accurate from the Poisson limit to theta = 1e-3.

`log p(y) = saturated(y, theta) - deviance(y, mu, theta) / 2` (Loader's saddle point, as in R's `dbinom`):
only the deviance knows the mean, so a fit with fixed theta needs nothing else.

Everything is evaluated in float64 and returned in the dtype of the input. Near y = mu the deviance is a
small difference of terms of size |y - mu|, and in float32 the rounding of exp(log_mu) alone costs 2e-5 at
mu = 1e5; no rearrangement wins that back.
"""

import math
from typing import Any

import torch
from torch import Tensor

_SERIES_FROM = 16.0
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_POISSON_THETA = 1e30


def nb_deviance(counts: Tensor, log_mu: Tensor, theta: Tensor) -> Tensor:
    """Compute the unit deviance of the negative binomial, elementwise and broadcasting.

    Differentiable (twice) in `log_mu` and `theta`; `counts` are data and get no gradient. Its gradient in
    log_mu is -2 (y - mu) theta / (theta + mu). One formula holds from theta = 1e-3 to the Poisson limit.

    Parameters
    ----------
    counts
        y >= 0, whole or not (means of cells are valid).
    log_mu
        Natural log of the expected count.
    theta
        Dispersion (size), > 0: the variance is mu + mu²/theta.

    Returns
    -------
    Tensor
        2 [y log(y/mu) - (y + theta) log((y + theta)/(mu + theta))] >= 0.
    """
    dtype = _result_type(counts, log_mu, theta)
    return 2 * _half_deviance(counts, log_mu, theta).to(dtype)


def poisson_deviance(counts: Tensor, log_mu: Tensor) -> Tensor:
    """Compute the unit deviance of the Poisson, 2 [y log(y/mu) - (y - mu)] >= 0: `nb_deviance`'s limit."""
    theta = torch.tensor(_POISSON_THETA, dtype=_working_type(log_mu), device=log_mu.device)
    return 2 * _half_deviance(counts, log_mu, theta).to(_result_type(counts, log_mu))


def nb_saturated_log_prob(counts: Tensor, theta: Tensor) -> Tensor:
    """Log probability of `counts` under the negative binomial whose mean is `counts` itself.

    -log(2 pi y)/2 - log1p(y/theta)/2 + d(y + theta) - d(theta) - d(y), with d the error of Stirling's
    formula; 0 at y = 0. Differentiable in `theta`.
    """
    y, size = _widen(counts), _widen(theta)
    seen = y > 0
    safe = torch.where(seen, y, torch.ones_like(y))
    correction = _stirling_error(safe + size) - _stirling_error(size) - _stirling_error(safe)
    value = correction - 0.5 * (torch.log(2 * math.pi * safe) + torch.log1p(safe / size))
    return torch.where(seen, value, torch.zeros_like(value)).to(_result_type(counts, theta))


def nb_log_prob(counts: Tensor, log_mu: Tensor, theta: Tensor) -> Tensor:
    """Log probability in nats under mean exp(log_mu) and variance mu + mu²/theta."""
    return nb_saturated_log_prob(counts, theta) - nb_deviance(counts, log_mu, theta) / 2


def _half_deviance(counts: Tensor, log_mu: Tensor, theta: Tensor) -> Tensor:
    expanded = torch.broadcast_tensors(counts.detach(), log_mu, theta)  # type: ignore[no-untyped-call]
    deviance: Tensor = _HalfDeviance.apply(*expanded)  # type: ignore[no-untyped-call]
    return deviance


class _HalfDeviance(torch.autograd.Function):
    """Half the unit deviance with its score written out: nothing but the inputs is kept for backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(counts: Tensor, log_mu: Tensor, theta: Tensor) -> Tensor:
        y, size = _widen(counts), _widen(theta)
        mu = _widen(log_mu).exp()
        low, high = torch.minimum(y, mu), torch.maximum(y, mu)
        gap = high - low
        # Both logarithms are of 1 + something positive, so neither cancels however far y is from mu.
        on_total = torch.log1p(gap / (low + size)).mul_(size)
        # y = 0 needs any finite logarithm; far enough above the smallest float that gap / low is finite too.
        low = torch.clamp(low, min=torch.finfo(low.dtype).tiny * 1e18)
        on_count = gap.div_(low).mul_(size / high.add_(size)).log1p_().mul_(y)
        half = on_count.sub_(on_total)
        half = torch.where(y < mu, -half, half).clamp_min_(0.0)
        return half.to(_result_type(counts, log_mu, theta))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        counts, log_mu, theta = ctx.saved_tensors
        mu = log_mu.exp()
        on_log_mu = on_theta = None
        if ctx.needs_input_grad[1]:
            on_log_mu = (grads[0] * (mu - counts) * (theta / (theta + mu))).to(log_mu.dtype)
        if ctx.needs_input_grad[2]:
            on_theta = (grads[0] * _theta_slope(counts, log_mu, theta)).to(theta.dtype)
        return None, on_log_mu, on_theta


def _theta_slope(counts: Tensor, log_mu: Tensor, theta: Tensor) -> Tensor:
    """Differentiate half the deviance by theta: u - log1p(u) >= 0, u = (y - mu)/(mu + theta)."""
    y, size = _widen(counts), _widen(theta)
    mu = _widen(log_mu).exp()
    below = y < mu
    ratio = torch.where(below, (mu - y) / (y + size), (y - mu) / (mu + size))
    logarithm = torch.log1p(ratio)
    return (y - mu) / (mu + size) - torch.where(below, -logarithm, logarithm)


def _stirling_error(z: Tensor) -> Tensor:
    """lnΓ(z) - [(z - ½) ln z - z + ½ ln 2π] for float64 z > 0, finite in value and gradient for all z."""
    near, far = z.clamp(max=_SERIES_FROM), z.clamp(min=_SERIES_FROM)
    direct = torch.lgamma(near) - (near - 0.5) * near.log() + near - 0.5 * math.log(2 * math.pi)
    inverse = far.reciprocal()
    square = inverse * inverse
    series = torch.zeros_like(z)
    for coefficient in reversed(_STIRLING):
        series = series * square + coefficient
    return torch.where(z < _SERIES_FROM, direct, series * inverse)


def _working_type(tensor: Tensor) -> torch.dtype:
    # Apple's GPU has no float64: there the same formulas run in float32, good enough to train with.
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _widen(tensor: Tensor) -> Tensor:
    return tensor.to(_working_type(tensor))


def _result_type(*tensors: Tensor) -> torch.dtype:
    dtype = torch.float32
    for tensor in tensors:
        if tensor.is_floating_point():
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
