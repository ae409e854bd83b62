"""The negative binomial against mpmath, scipy, statsmodels and its own identities."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pertexp.nn.negative_binomial import nb_deviance, nb_log_prob, nb_saturated_log_prob, poisson_deviance

MU = (1e-8, 1e-3, 0.3, 1.0, 4.9, 5.0001, 97.0, 1e3, 1.003e5)
NEAR = (0.5, 0.999999, 1.0, 1.0001, 1.003, 1.03, 2.0)
Y = (0.0, 0.4, 1.0, 2.0, 5.0, 96.0, 1000.0, 99_999.0, 100_000.0)
THETA = (1e-3, 0.07, 1.0, 15.9, 16.1, 1e3, 1e6, 1e9, 1e12)
ERROR = {torch.float32: 2e-6, torch.float64: 1e-12}


def grid(dtype):
    """y, log_mu, theta over the whole range, and y within a few standard deviations of mu at every size."""
    points = [(y, m, t) for y in Y for m in MU for t in THETA]
    points += [(m * r, m, t) for m in MU for r in NEAR for t in THETA]
    y, mu, theta = torch.tensor(points, dtype=torch.float64).T
    return y.to(dtype), mu.log().to(dtype), theta.to(dtype)


def exact(mpmath, y, log_mu, theta):
    """Deviance, saturated log probability and log probability at the very floats given."""
    y, eta, theta = mpmath.mpf(y), mpmath.mpf(log_mu), mpmath.mpf(theta)

    def log_prob(mean):
        shape = mpmath.loggamma(y + theta) - mpmath.loggamma(theta) - mpmath.loggamma(y + 1)
        count = y * mpmath.log(mean / (mean + theta)) if y else 0
        return shape + count + theta * mpmath.log(theta / (mean + theta))

    saturated = log_prob(y) if y else mpmath.mpf(0)
    here = log_prob(mpmath.exp(eta))
    return tuple(float(value) for value in (2 * (saturated - here), saturated, here))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_fifty_digits(dtype):
    mpmath = pytest.importorskip("mpmath")
    y, log_mu, theta = grid(dtype)
    with mpmath.workdps(50):
        truth = np.array([exact(mpmath, *p) for p in zip(y.tolist(), log_mu.tolist(), theta.tolist(), strict=True)])
    ours = (nb_deviance(y, log_mu, theta), nb_saturated_log_prob(y, theta), nb_log_prob(y, log_mu, theta))
    for name, got, expected in zip(("deviance", "saturated", "log_prob"), ours, truth.T, strict=True):
        assert got.dtype == dtype
        error = np.abs(got.double().numpy() - expected) / (1 + np.abs(expected))
        assert error.max() <= ERROR[dtype], (name, error.max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_poisson_deviance_against_fifty_digits(dtype):
    mpmath = pytest.importorskip("mpmath")
    y, log_mu, _ = grid(dtype)
    got = poisson_deviance(y, log_mu).double().tolist()
    with mpmath.workdps(50):
        for value, count, eta in zip(got, map(mpmath.mpf, y.tolist()), map(mpmath.mpf, log_mu.tolist()), strict=True):
            log_part = count * (mpmath.log(count) - eta) if count else 0
            expected = float(2 * (log_part - count + mpmath.exp(eta)))
            assert abs(value - expected) <= ERROR[dtype] * (1 + abs(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_the_score_and_finite(dtype):
    y, log_mu, theta = grid(dtype)
    log_mu.requires_grad_()
    theta.requires_grad_()
    nb_log_prob(y, log_mu, theta).sum().backward()
    mu = log_mu.detach().double().exp()
    score = (y.double() - mu) * theta.detach().double() / (theta.detach().double() + mu)
    allowed = 4 * torch.finfo(dtype).eps * (1 + score.abs() + mu)
    assert ((log_mu.grad.double() - score).abs() <= allowed).all()
    assert torch.isfinite(theta.grad).all()


def test_gradcheck_twice():
    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([0.0, 1.0, 3.0, 0.5, 40.0], dtype=torch.float64)
    log_mu = torch.randn(4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    theta = (torch.rand(5, generator=generator, dtype=torch.float64) * 30 + 0.2).requires_grad_()
    for function in (nb_deviance, nb_log_prob):
        assert torch.autograd.gradcheck(lambda a, b: function(y, a, b), (log_mu, theta))  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda a, b: function(y, a, b), (log_mu, theta))  # noqa: B023
    assert torch.autograd.gradcheck(lambda a: poisson_deviance(y, a), (log_mu,))


def test_theta_gradient_against_mpmath():
    mpmath = pytest.importorskip("mpmath")
    for y, mu, theta in [
        (0.0, 2.0, 0.01),
        (7.0, 2.0, 3.0),
        (3.0, 1e4, 0.5),
        (1e4, 0.1, 20.0),
        (5.0, 6.0, 1e4),
    ]:
        size = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        count, log_mu = torch.tensor(y, dtype=torch.float64), torch.tensor(mu, dtype=torch.float64).log()
        nb_log_prob(count, log_mu, size).backward()
        with mpmath.workdps(60):
            slope = mpmath.diff(lambda t: exact_log_prob(mpmath, y, log_mu.item(), t), mpmath.mpf(theta))  # noqa: B023
        assert size.grad.item() == pytest.approx(float(slope), rel=1e-8, abs=1e-15)


def exact_log_prob(mpmath, y, log_mu, theta):
    mean = mpmath.exp(mpmath.mpf(log_mu))
    shape = mpmath.loggamma(y + theta) - mpmath.loggamma(theta) - mpmath.loggamma(y + 1)
    return shape + y * mpmath.log(mean / (mean + theta)) + theta * mpmath.log(theta / (mean + theta))


@pytest.mark.parametrize(("mu", "theta"), [(0.05, 0.3), (3.0, 0.5), (40.0, 7.0), (40.0, 1e12)])
def test_probabilities_sum_to_one(mu, theta):
    y = torch.arange(6000, dtype=torch.float64)
    log_mu = torch.tensor(mu, dtype=torch.float64).log()
    log_prob = nb_log_prob(y, log_mu, torch.tensor(theta, dtype=torch.float64))
    assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-11)
    assert (log_prob.exp() * y).sum().item() == pytest.approx(mu, rel=1e-10)


def test_poisson_limit():
    """The approach to the Poisson is (y - mu)²/theta in the deviance, ((y - mu)² - y)/(2 theta) in log p."""
    y = torch.arange(60, dtype=torch.float64)[:, None]
    mu, theta = torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64), torch.tensor(1e12, dtype=torch.float64)
    poisson = torch.from_numpy(stats.poisson.logpmf(y.numpy(), mu.numpy()))
    expected = poisson + ((y - mu) ** 2 - y) / (2 * theta)
    assert (nb_log_prob(y, mu.log(), theta) - expected).abs().max() < 1e-12 * 500
    gap = poisson_deviance(y, mu.log()) - nb_deviance(y, mu.log(), theta)
    assert (gap - (y - mu) ** 2 / theta).abs().max() < 1e-12 * 500


def test_scipy_and_statsmodels_agree():
    y, mu, theta = np.meshgrid([0, 1, 4, 30, 200], [0.1, 1.0, 8.0, 150.0], [0.2, 1.0, 5.0, 60.0])
    as_torch = [torch.from_numpy(a.astype(float)) for a in (y, np.log(mu), theta)]
    expected = stats.nbinom.logpmf(y, theta, theta / (theta + mu))
    assert np.allclose(nb_log_prob(*as_torch).numpy(), expected, rtol=1e-10, atol=1e-10)
    families = pytest.importorskip("statsmodels.api").families
    for size in (0.2, 5.0):
        chosen = theta == size
        expected = families.NegativeBinomial(alpha=1 / size).resid_dev(y[chosen], mu[chosen]) ** 2
        got = nb_deviance(*(a[torch.from_numpy(chosen)] for a in as_torch))
        assert np.allclose(got.numpy(), expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=300, deadline=None)
@given(
    st.floats(0, 1e5),
    st.floats(-18.4, 11.5),
    st.floats(-3, 12),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_deviance_is_never_negative_and_grows_away_from_the_count(y, log_mu, log10_theta, dtype):
    count = torch.tensor(y, dtype=dtype)
    theta = torch.tensor(10.0**log10_theta, dtype=dtype)
    eta = torch.tensor(log_mu, dtype=dtype)
    deviance = nb_deviance(count, eta, theta)
    assert deviance >= 0
    away = eta + (1.0 if eta.exp() >= count else -1.0)
    assert nb_deviance(count, away, theta) >= deviance


def test_vanishing_counts_and_means():
    one = torch.ones((), dtype=torch.float64)
    at_zero = nb_deviance(0 * one, 0 * one, one)
    for tiny in (5e-324, 1e-308, 1e-290, 1e-100):
        assert nb_deviance(tiny * one, 0 * one, one).item() == pytest.approx(at_zero.item(), rel=1e-12)
    # At mu = exp(-2000), below the smallest float, the deviance stays large and finite.
    assert 1000 < nb_deviance(3 * one, -2000 * one, one).item() < math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deviance_vanishes_at_the_mean(dtype):
    y = torch.logspace(-8, 5, 200, dtype=dtype)[:, None]
    theta = torch.logspace(-3, 12, 16, dtype=dtype)
    # log(y) in this dtype is off by eps·|log y|, which is worth y·(eps·log y)² and no more.
    floor = y * (torch.finfo(dtype).eps * (1 + y.log().abs())) ** 2
    assert (nb_deviance(y, y.log(), theta) <= 2 * floor + torch.finfo(dtype).eps ** 2 * 1e6).all()


def test_broadcasting_dtypes_and_whole_number_counts():
    counts = torch.tensor([[0, 3, 9], [1, 0, 2]])
    log_mu, theta = torch.zeros(2, 3, requires_grad=True), torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    value = nb_deviance(counts, log_mu, theta)
    assert (value.shape, value.dtype) == ((2, 3), torch.float32)
    value.sum().backward()
    assert (log_mu.grad.shape, theta.grad.shape) == ((2, 3), (3,))
    assert nb_deviance(counts, log_mu.bfloat16(), theta).dtype == torch.float32
    assert nb_log_prob(counts, log_mu.double(), theta).dtype == torch.float64
    assert nb_deviance(torch.zeros(0, 3), torch.zeros(0, 3), theta).shape == (0, 3)


def test_per_sample_gradients():
    generator = torch.Generator().manual_seed(1)
    log_mu = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    y, theta = torch.ones(4, dtype=torch.float64), torch.full((4,), 2.0, dtype=torch.float64)
    rows = torch.func.vmap(torch.func.grad(lambda eta: nb_deviance(y, eta, theta).sum()))(log_mu)
    mu = log_mu.exp()
    assert torch.allclose(rows, -2 * (1 - mu) * 2 / (2 + mu))


def test_the_textbook_form_in_float32_errs_where_this_does_not():
    """Near the Poisson the two logarithms cancel; the deviance here is 0.1."""
    y, log_mu, theta = torch.tensor(1010.0), torch.tensor(math.log(1000.0)), torch.tensor(1e9)
    naive = 2 * (y * (y.log() - log_mu) - (y + theta) * (torch.log(y + theta) - torch.log(log_mu.exp() + theta)))
    truth = 2 * (1010 * (math.log(1010) - log_mu.item()) - 1010 + math.exp(log_mu.item()))
    assert abs(naive.item() - truth) > 0.05
    assert nb_deviance(y, log_mu, theta).item() == pytest.approx(truth, abs=1e-6)
