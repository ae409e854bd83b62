"""Dispersions against what was planted, against maximum likelihood and against PyDESeq2."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize_scalar
from scipy.special import gammaln
from scipy.stats import norm

from pertexp.config.errors import DataError, MismatchError
from pertexp.nn.dispersion import THETA_MAX, _smoother, control_mean, estimate_dispersion, moment_dispersion

GENES, CELLS = 300, 4340
INFINITE = 1e5


def simulate(seed, genes=GENES, cells=CELLS, spread=0.4):
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(0, spread, cells))
    mean = np.exp(rng.uniform(np.log(0.05), np.log(20), genes))
    theta = 2 * mean**0.3 * np.exp(rng.normal(0, 1, genes))
    counts = rng.poisson(rng.gamma(theta, size=(cells, genes)) * (mean / theta) * size[:, None])
    return counts, size, mean, theta


def log_likelihood(log_theta, y, mean):
    theta = np.exp(log_theta)
    value = gammaln(y + theta) - gammaln(theta) - (y + theta) * np.log1p(mean / theta) - y * log_theta
    return value.sum()


def maximum_likelihood(y, size):
    """One-dimensional oracle over all cells, mean Σy/Σs; at the bound where the maximum is infinite."""
    mean = size * y.sum() / size.sum()
    bounds = (np.log(1e-3), np.log(1e6))
    return minimize_scalar(lambda x: -log_likelihood(x, y, mean), bounds=bounds, method="bounded").x


def root_mean_square(values):
    return np.sqrt(np.mean(values**2))


def rmse(a, b):
    return root_mean_square(np.log(a) - np.log(b))


@pytest.fixture(scope="module", params=[0, 1])
def planted(request):
    counts, size, mean, theta = simulate(request.param)
    return counts, size, mean, theta, estimate_dispersion(sp.csr_matrix(counts), size)


def test_planted_dispersions_are_unbiased_where_raw_moments_are_not(planted):
    counts, _, mean, theta, found = planted
    high = mean > 0.5
    raw = counts.mean(axis=0) ** 2 / np.maximum(counts.var(axis=0) - counts.mean(axis=0), 1e-9)
    assert 0.95 < np.median(found.theta[high] / theta[high]) < 1.05
    assert 0.95 < np.median(found.theta_moments[high] / theta[high]) < 1.05
    assert np.median(raw[high] / theta[high]) < 0.75
    assert 0.7 < found.prior_sd < 1.3
    assert np.allclose(found.mean, mean, rtol=0.3)


@pytest.mark.medium
def test_error_within_ten_percent_of_maximum_likelihood():
    """Genes whose likelihood rises to infinity have no maximum: they leave the comparison, not the estimate.

    Seeds are pooled: one or two genes of extreme theta rule the error of a single seed.
    """
    ours, theirs, high, infinite = [], [], [], []
    for seed in range(6):
        counts, size, mean, theta = simulate(seed)
        found = np.log(estimate_dispersion(sp.csr_matrix(counts), size).theta / theta)
        best = np.array([maximum_likelihood(y, size) for y in counts.T.astype(float)])
        finite = best < np.log(INFINITE)
        ours.append(found[finite])
        theirs.append((best - np.log(theta))[finite])
        high.append(mean[finite] > 0.5)
        infinite.append(found[~finite])
    mine, oracle, often = np.concatenate(ours), np.concatenate(theirs), np.concatenate(high)
    assert len(mine) > 0.97 * 6 * GENES
    assert root_mean_square(mine) < 1.1 * root_mean_square(oracle)
    assert root_mean_square(mine[often]) < 1.1 * root_mean_square(oracle[often])
    # Without a maximum the prior decides, and its width is 1.
    assert root_mean_square(np.concatenate(infinite)) < 1.5


def test_the_trend_is_a_gaussian_smoother_over_the_log_mean():
    """At each of its grid points, half a width apart, the kernel average; genes never seen take that of the rarest."""
    rng = np.random.default_rng(0)
    mean, values = np.exp(rng.normal(size=40)), rng.normal(size=40)
    mean[3] = 0
    seen = mean > 0
    x = np.log(mean[seen])
    width = 1.06 * x.std() * 39**-0.2
    grid = np.arange(x.min(), x.max() + width, width / 2)
    weight = norm.pdf(grid[:, None], x, width)
    smooth = (weight * values[seen]).sum(axis=1) / weight.sum(axis=1)
    found = _smoother(mean)(values)
    np.testing.assert_allclose(found[seen], np.interp(x, grid, smooth), rtol=1e-9)
    assert found[3] == pytest.approx(found[seen][x.argmin()])
    np.testing.assert_allclose(_smoother(np.zeros(4))(np.arange(4.0)), 1.5)
    np.testing.assert_allclose(_smoother(np.ones(4))(np.arange(4.0)), 1.5)


def test_the_mode_is_that_of_the_likelihood_over_every_cell():
    """Brute force over all cells with the prior that was found: only the search differs."""
    counts, size, _, _ = simulate(2, genes=40, cells=600)
    found = estimate_dispersion(sp.csr_matrix(counts), size)
    for gene in range(40):
        y = counts[:, gene].astype(float)
        mean = size * y.sum() / size.sum()

        def negative_posterior(x, y=y, mean=mean, trend=found.trend[gene]):
            adjustment = -0.5 * np.log((mean / (1 + mean / np.exp(x))).sum())
            return -log_likelihood(x, y, mean) - adjustment + (x - np.log(trend)) ** 2 / (2 * found.prior_sd**2)

        best = minimize_scalar(negative_posterior, bounds=(-7, 12), method="bounded", options={"xatol": 1e-7}).x
        assert np.log(found.theta[gene]) == pytest.approx(best, abs=2e-3)


def test_truth_is_reached_as_cells_grow():
    errors = []
    for cells in (500, 50_000):
        counts, size, _, theta = simulate(3, genes=20, cells=cells)
        errors.append(rmse(estimate_dispersion(sp.csr_matrix(counts), size).theta, theta))
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 3


def test_statsmodels_agrees_where_data_rule():
    discrete = pytest.importorskip("statsmodels.api")
    counts, size, mean, _ = simulate(4, genes=60, cells=3000)
    found = estimate_dispersion(sp.csr_matrix(counts), size)
    high = np.flatnonzero((mean > 3) & (found.theta < 10))[:6]
    assert len(high) == 6
    for gene in high:
        model = discrete.NegativeBinomial(counts[:, gene], np.ones((3000, 1)), offset=np.log(size))
        fit = model.fit(disp=0)
        # A tenth of the standard error leaves space for the prior and the Cox-Reid term and little else.
        assert abs(np.log(found.theta[gene] * fit.params[-1])) < 0.1 * fit.bse[-1] / fit.params[-1] + 2e-3


def test_pydeseq2_agrees_on_moments():
    grid = pytest.importorskip("pydeseq2.utils")
    counts, size, _, _ = simulate(5, genes=50, cells=400)
    theirs = grid.fit_moments_dispersions(counts / size[:, None], size)
    ours = moment_dispersion(sp.csr_matrix(counts), size)
    over = theirs > 1e-6
    assert over.sum() > 30
    assert np.allclose(1 / ours[over], theirs[over], rtol=1e-8)
    assert (ours[~over] == 1e8).all()


def test_groups_of_unequal_mean_do_not_count_as_dispersion():
    rng = np.random.default_rng(6)
    cells, genes, groups = 4000, 120, 100
    size, group = np.exp(rng.normal(0, 0.4, cells)), rng.integers(0, groups, cells)
    mean, theta = np.exp(rng.uniform(np.log(0.5), np.log(20), genes)), np.exp(rng.normal(1, 1, genes))
    shifted = (mean * np.exp(rng.normal(0, 0.5, (groups, genes))))[group] * size[:, None]
    counts = sp.csr_matrix(rng.poisson(rng.gamma(theta, size=shifted.shape) * shifted / theta))
    within = estimate_dispersion(counts, size, group)
    assert 0.95 < np.median(within.theta / theta) < 1.05
    assert 0.93 < np.median(within.theta_moments / theta) < 1.07
    assert np.median(estimate_dispersion(counts, size).theta / theta) < 0.75
    named = estimate_dispersion(counts, size, np.array([f"p{k}" for k in group]))
    assert np.allclose(named.theta, within.theta, rtol=1e-6)


def test_one_group_is_no_group():
    counts, size, _, _ = simulate(7, genes=20, cells=300)
    matrix = sp.csr_matrix(counts)
    assert np.array_equal(
        estimate_dispersion(matrix, size).theta, estimate_dispersion(matrix, size, np.full(300, "x")).theta
    )


@pytest.mark.parametrize("spread", [0.0, 0.4, 1.2])
def test_order_of_genes_and_cells_and_scale_of_size_factors(spread):
    counts, size, _, _ = simulate(8, genes=50, cells=700, spread=spread)
    base = estimate_dispersion(sp.csr_matrix(counts), size)
    rng = np.random.default_rng(0)
    genes, cells = rng.permutation(50), rng.permutation(700)
    moved = estimate_dispersion(sp.csr_matrix(counts[cells][:, genes]), size[cells])
    scaled = estimate_dispersion(sp.csr_matrix(counts), 1000 * size)
    for name in ("theta", "theta_moments", "trend"):
        assert np.allclose(getattr(moved, name), getattr(base, name)[genes], rtol=1e-6), name
        assert np.allclose(getattr(scaled, name), getattr(base, name), rtol=1e-6), name
    assert np.allclose(scaled.mean * 1000, base.mean)


def test_storage_does_not_matter_and_nothing_is_changed():
    counts, size, _, _ = simulate(9, genes=20, cells=200)
    counts[0, :3] = 900
    base = estimate_dispersion(sp.csr_matrix(counts), size).theta
    matrix = sp.csr_matrix(counts.astype(np.float32))
    matrix.data[:5] = 0
    before = matrix.copy()
    stored_zeros = estimate_dispersion(matrix, size).theta
    assert (matrix != before).nnz == 0
    before.eliminate_zeros()
    assert np.allclose(stored_zeros, estimate_dispersion(before, size).theta, rtol=1e-9)
    assert np.allclose(base, estimate_dispersion(sp.csc_matrix(counts), size).theta, rtol=1e-9)


def test_poisson_genes_take_a_large_finite_dispersion():
    _, size, mean, _ = simulate(10)
    rng = np.random.default_rng(1)
    found = estimate_dispersion(sp.csr_matrix(rng.poisson(mean * size[:, None])), size)
    assert np.isfinite(found.theta).all()
    assert (found.theta_moments == 1e8).mean() > 0.3
    # What matters is the variance that theta adds, mu²/theta against mu: under 3 % at every gene.
    assert (mean / found.theta).max() < 0.03


def test_genes_without_counts_take_the_trend():
    counts, size, _, _ = simulate(11, genes=30, cells=500)
    counts[:, [0, 7]] = 0
    found = estimate_dispersion(sp.csr_matrix(counts), size)
    assert np.isfinite(found.theta).all()
    assert np.allclose(found.theta[[0, 7]], found.trend[[0, 7]], rtol=1e-2)
    assert (found.mean[[0, 7]] == 0).all()
    silent = estimate_dispersion(sp.csr_matrix((5, 3)), np.ones(5))
    assert np.isfinite(silent.theta).all()


def test_empty_one_cell_and_one_gene():
    nothing = estimate_dispersion(sp.csr_matrix((4, 0)), np.ones(4))
    assert nothing.theta.shape == nothing.trend.shape == (0,)
    counts, size, _, theta = simulate(12, genes=1, cells=5000)
    assert estimate_dispersion(sp.csr_matrix(counts), size).theta == pytest.approx(theta, rel=0.5)
    for cells in (0, 1):
        with pytest.raises(DataError, match="at least two cells"):
            estimate_dispersion(sp.csr_matrix((cells, 3)), np.ones(cells))
    with pytest.raises(DataError, match="no group of two"):
        estimate_dispersion(sp.csr_matrix((3, 3)), np.ones(3), np.arange(3))


def test_what_is_wrong_is_said():
    counts = sp.csr_matrix(np.eye(4))
    with pytest.raises(MismatchError, match="size_factor has shape"):
        estimate_dispersion(counts, np.ones(3))
    with pytest.raises(MismatchError, match="labels"):
        moment_dispersion(counts, np.ones(4), np.zeros(3))
    with pytest.raises(DataError, match="2 of 4 size factors"):
        moment_dispersion(counts, np.array([1, 0, np.nan, 2.0]))
    with pytest.raises(DataError, match=r"0\.5 where whole numbers"):
        estimate_dispersion(counts * 0.5, np.ones(4))


def test_control_mean():
    counts, size, mean, _ = simulate(13, cells=2000)
    assert np.median(control_mean(sp.csr_matrix(counts), size) / mean) == pytest.approx(1, abs=0.02)
    counts = sp.csr_matrix(np.array([[4, 0, 2], [8, 0, 4]]))
    size = np.array([1.0, 2.0])
    typical = (12 + 0 + 6) / 3 / 3
    expected = (np.array([12, 0, 6]) + 0.25) / (3 + 0.25 / typical)
    assert np.allclose(control_mean(counts, size, pseudo_count=0.25), expected)
    assert np.allclose(control_mean(counts, 10 * size) * 10, control_mean(counts, size))
    assert control_mean(counts, size)[2] == pytest.approx(typical)
    for empty in (sp.csr_matrix((0, 3)), sp.csr_matrix((2, 3))):
        with pytest.raises(DataError, match="hold no count"):
            control_mean(empty, np.ones(empty.shape[0]))


def test_a_gene_without_counts_or_without_excess_has_the_largest_dispersion_parameter():
    """Nothing says that such a gene varies more than Poisson does."""
    counts = np.array([[0, 4, 1], [0, 4, 9], [0, 4, 2], [0, 4, 30]])
    found = moment_dispersion(sp.csr_matrix(counts), np.ones(4))
    assert found[:2].tolist() == [THETA_MAX, THETA_MAX]
    values = counts[:, 2]
    assert found[2] == pytest.approx(values.mean() ** 2 / (values.var(ddof=1) - values.mean()))
