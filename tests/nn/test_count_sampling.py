"""Samplers against the moments and the probabilities that they promise."""

import numpy as np
import pytest
import torch
from scipy import stats

from pertexp.config.errors import RequestError
from pertexp.nn.count_sampling import sample_counts

MU_THETA = [(0.1, 0.5), (1.0, 2.0), (20.0, 0.7), (300.0, 15.0), (5.0, 1e9)]
CELLS = 40_000
Z_LIMIT = 4.5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def z_of_mean_and_variance(draws, mean, variance):
    """How many standard errors the sample mean and variance are off."""
    n = len(draws)
    squares = (draws - mean) ** 2
    z_mean = (draws.mean() - mean) / np.sqrt(variance / n)
    z_variance = (squares.mean() - variance) / (squares.std() / np.sqrt(n))
    return z_mean, z_variance


@pytest.mark.parametrize("r0", [None, 8.0])
@pytest.mark.parametrize("sampler", ["poisson", "nb", "gp_mixture"])
def test_mean_and_variance(sampler, r0):
    mu, theta = torch.tensor(MU_THETA).T
    draws = sample_counts(mu.expand(CELLS, -1), theta, sampler, seeded(1), r0).double().numpy()
    for column, (m, t) in zip(draws.T, MU_THETA, strict=True):
        own = 0.0 if sampler == "poisson" else 1 / t
        shared = 0.0 if r0 is None else 1 / r0
        variance = m + m * m * (own + shared + own * shared)
        z = z_of_mean_and_variance(column, m, variance)
        assert np.abs(z).max() < Z_LIMIT, (m, t, z)


@pytest.mark.parametrize("sampler", ["nb", "gp_mixture"])
@pytest.mark.parametrize(("mu", "theta"), [(0.5, 0.3), (3.0, 1.5), (30.0, 40.0), (2.0, 1e12)])
def test_both_constructions_have_the_negative_binomial_law(sampler, mu, theta):
    draws = sample_counts(torch.full((CELLS,), mu), torch.tensor(theta), sampler, seeded(2)).numpy()
    law = stats.poisson(mu) if theta > 1e9 else stats.nbinom(theta, theta / (theta + mu))
    top = int(law.ppf(0.999))
    observed = np.bincount(np.minimum(draws, top + 1).astype(int), minlength=top + 2)
    expected = CELLS * np.r_[law.pmf(np.arange(top + 1)), law.sf(top)]
    kept = expected > 5
    statistic = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
    assert stats.chi2.sf(statistic, kept.sum() - 1) > 1e-4


def test_clusters_stay_exact_where_a_gamma_of_tiny_shape_underflows():
    mu, theta = 100.0, 1e-3
    draws = sample_counts(torch.full((400_000,), mu), torch.tensor(theta), "nb", seeded(3)).numpy()
    share_of_zeros = (theta / (theta + mu)) ** theta
    z = ((draws == 0).mean() - share_of_zeros) / np.sqrt(share_of_zeros * (1 - share_of_zeros) / len(draws))
    assert abs(z) < Z_LIMIT


def test_heterogeneity_is_one_factor_for_all_genes_of_a_cell():
    draws = sample_counts(torch.full((4000, 2), 1000.0), torch.tensor(1e9), "poisson", seeded(4), 4.0).numpy()
    correlation = np.corrcoef(draws.T)[0, 1]
    assert correlation > 0.99
    assert sample_counts(torch.full((7,), 1000.0), torch.ones(7), "poisson", seeded(4), 4.0).shape == (7,)


@pytest.mark.parametrize("sampler", ["poisson", "nb", "gp_mixture"])
def test_every_draw_comes_from_the_generator(sampler):
    mu, theta = torch.rand(50, 20) * 30, torch.rand(20) + 0.1
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = sample_counts(mu, theta, sampler, seeded(6), 3.0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(first, sample_counts(mu, theta, sampler, seeded(6), 3.0))
    assert not torch.equal(first, sample_counts(mu, theta, sampler, seeded(7), 3.0))


@pytest.mark.parametrize("sampler", ["poisson", "nb", "gp_mixture"])
def test_shapes_and_extremes(sampler):
    mu = torch.tensor([0.0, 1e-30, 1e-8, 1e5])
    theta = torch.tensor([1e-3, 1e-3, 1e12, 1e12])
    draws = sample_counts(mu, theta, sampler, seeded(8))
    assert draws.dtype == mu.dtype
    assert draws[:3].tolist() == [0, 0, 0]
    assert abs(draws[3] - 1e5) < 6 * 1e5**0.5
    assert sample_counts(torch.empty(0, 4), theta, sampler, seeded(), 2.0).shape == (0, 4)


def test_requests_that_cannot_be_carried_out():
    mu = torch.ones(2, 3)
    with pytest.raises(RequestError, match="gp_mixture"):
        sample_counts(mu, mu, "gp_mix")
    with pytest.raises(RequestError, match="positive"):
        sample_counts(mu, mu, "nb", heterogeneity=0.0)
