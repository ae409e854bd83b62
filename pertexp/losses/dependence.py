"""Dependence of two sets of features: their correlations, or a bound on their mutual information."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

# Widest range of a log variance: e^±8 spans features of any usual scale, and its inverse never overflows.
LOG_VARIANCE = 8.0


def cross_correlation(a: Tensor, b: Tensor, eps: float = 1e-8) -> Tensor:
    """Return the mean squared entry of the cross-correlation matrix, (1 / dA dB) Σ_jk r(a_j, b_k)², in [0, 1].

    Each feature is standardised over the samples by itself. One correlation of all entries taken together could be 0
    for features that depend on each other. Features that are independent do not reach 0 either: for normal ones the
    expectation is 1 / (n − 1).

    A feature with a variance ≤ eps × its mean square does not vary: it counts as uncorrelated and gets no gradient.
    eps is relative, because an absolute one in the denominator could be satisfied by shrinking the features.

    Parameters
    ----------
    a, b
        `[n, dA]`, `[n, dB]`: rows are the same samples.
    eps
        As above.

    Returns
    -------
    A scalar; 0 where there are fewer than two samples.
    """
    correlation = _standardised(a, eps).T @ _standardised(b, eps) / max(len(a), 1)
    return correlation.square().mean()


def _standardised(x: Tensor, eps: float) -> Tensor:
    """Return columns of mean 0 and variance 1; columns of zeros where they do not vary."""
    centred = x - x.mean(dim=0)
    variance = centred.square().mean(dim=0)
    varies = variance > eps * x.square().mean(dim=0)
    # A root of 0 has an infinite gradient, which a mask after it would turn into NaN.
    return torch.where(varies, centred * torch.where(varies, variance, 1.0).rsqrt(), 0.0)


class MutualInformation(nn.Module):
    """CLUB, an upper bound on the mutual information I(a; b) in nats (Cheng et al. 2020).

        bound = mean_i [ log q(b_i | a_i) − mean_j log q(b_j | a_i) ],    q(b | a) = N(μ(a), diag σ²(a)).

    Where q is the true conditional its expectation is I(a; b) + KL(p(a) p(b) ‖ p(a, b)): an upper bound that is 0 for
    independent a and b, and never tight otherwise. While q has not learned, it bounds nothing and can be below 0.

    Parameters
    ----------
    a_width, b_width
        Numbers of features dA and dB.
    width
        Of the one hidden layer of q.
    """

    def __init__(self, a_width: int, b_width: int, width: int = 64) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(a_width, width), nn.ReLU(), nn.Linear(width, 2 * b_width))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Bound and negative log likelihood of q, both scalars, of `a [n, dA]` and `b [n, dB]`.

        The gradient of the bound reaches a and b but not q; that of the likelihood (a mean over samples and features)
        reaches q alone. So one optimiser can lessen both at once: q learns, and the features get away from it.
        """
        frozen = {name: weight.detach() for name, weight in self.network.named_parameters()}
        bound = _club(*_moments(functional_call(self.network, frozen, (a,))), b)
        mean, log_variance = _moments(self.network(a.detach()))
        return bound, functional.gaussian_nll_loss(mean, b.detach(), log_variance.exp(), full=True, eps=0.0)


def _moments(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and log variance `[n, dB]` each, the latter kept in a range."""
    mean, raw = output.chunk(2, dim=-1)
    return mean, LOG_VARIANCE * torch.tanh(raw / LOG_VARIANCE)


def _club(mean: Tensor, log_variance: Tensor, b: Tensor) -> Tensor:
    """Return the mean over pairs (i, j) in O(n): mean_j (b_j − μ_i)² is the variance of b plus (mean of b − μ_i)²."""
    apart = b.var(dim=0, correction=0) + (b.mean(dim=0) - mean).square()
    # The log variances of the two terms are the same and cancel.
    return 0.5 * ((apart - (b - mean).square()) * torch.exp(-log_variance)).sum(dim=-1).mean()
