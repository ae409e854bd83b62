"""The losses on counts: values, gradients, pseudo-bulk weights and what they identify."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from pertexp.losses import counts as losses
from pertexp.losses.counts import CountLoss, count_loss

ALL = [
    losses.nb,
    losses.nb_deviance,
    losses.poisson_deviance,
    losses.mse_log1p,
    losses.mse_anscombe,
]
NAMES = [loss.name for loss in ALL]


def batch(seed=0, rows=6, genes=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    log_mu = torch.randn(rows, genes, generator=generator, dtype=dtype)
    counts = torch.poisson(log_mu.exp() * 2, generator=generator)
    theta = torch.rand(genes, generator=generator, dtype=dtype) * 4 + 0.3
    return counts, log_mu, theta, torch.ones(rows, dtype=dtype)


def test_names_scales_and_who_identifies_theta():
    assert NAMES == ["nb", "nb_deviance", "poisson_deviance", "mse_log1p", "mse_anscombe"]
    assert [loss.name for loss in ALL if loss.identifies_theta] == ["nb"]
    assert {loss.scale for loss in ALL} == {"counts"}
    assert "single cells" in losses.mse_log1p.__doc__
    assert "single cells" in losses.mse_anscombe.__doc__


@pytest.mark.parametrize("loss", ALL, ids=NAMES)
def test_pickled_copied_and_fetched_by_name(loss):
    assert pickle.loads(pickle.dumps(loss)) is loss
    assert copy.deepcopy(loss) is loss
    hydra = pytest.importorskip("hydra.utils")
    assert hydra.get_object(f"pertexp.losses.counts.{loss.name}") is loss


def test_a_new_loss_is_one_function():
    @count_loss()
    def absolute(counts, log_mu, theta, cells):
        """Absolute error."""
        return (counts - log_mu.exp()).abs()

    assert isinstance(absolute, CountLoss)
    assert (absolute.name, absolute.identifies_theta, absolute.__doc__) == (
        "absolute",
        False,
        "Absolute error.",
    )
    assert absolute(*batch()).shape == (6, 5)


@pytest.mark.parametrize("loss", ALL, ids=NAMES)
def test_elementwise_finite_and_lowest_at_the_count(loss):
    counts, log_mu, theta, cells = batch()
    log_mu.requires_grad_()
    loss = loss.at_fixed_theta()
    value = loss(counts, log_mu, theta, cells)
    assert value.shape == (6, 5)
    value.sum().backward()
    assert torch.isfinite(log_mu.grad).all()
    positive = counts > 0
    at_count = loss(counts, counts.clamp_min(1e-300).log(), theta, cells)
    assert at_count[positive].abs().max() < 1e-12
    assert (value >= at_count - 1e-12)[positive].all()


@pytest.mark.parametrize("loss", ALL, ids=NAMES)
def test_order_of_rows_and_genes_does_not_matter(loss):
    counts, log_mu, theta, cells = batch(1)
    cells = torch.tensor([1.0, 3.0, 2.0, 9.0, 1.0, 5.0], dtype=torch.float64)
    rows, genes = torch.tensor([3, 1, 0, 5, 4, 2]), torch.tensor([4, 0, 2, 1, 3])
    moved = loss(counts[rows][:, genes], log_mu[rows][:, genes], theta[genes], cells[rows])
    stayed = loss(counts, log_mu, theta, cells)[rows][:, genes]
    assert torch.allclose(moved, stayed, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", ALL, ids=NAMES)
@pytest.mark.parametrize("extreme", [(0.0, -18.4), (1e5, -18.4), (0.0, 11.5), (1e5, 11.5)])
def test_gradients_are_finite_at_the_extremes_in_float32(loss, extreme):
    counts, eta = extreme
    log_mu = torch.full((1, 3), eta, requires_grad=True)
    theta = torch.tensor([1e-3, 1.0, 1e12], requires_grad=True)
    value = loss(torch.full((1, 3), counts), log_mu, theta, torch.tensor([1.0]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(log_mu.grad).all()
    assert theta.grad is None or torch.isfinite(theta.grad).all()


def test_nb_is_the_negative_log_likelihood_up_to_a_constant_for_fixed_theta():
    counts, log_mu, theta, cells = batch(2)
    log_pmf = stats.nbinom.logpmf(counts, theta, theta / (theta + log_mu.exp()))
    assert np.allclose(losses.nb(counts, log_mu, theta, cells).numpy(), -log_pmf, rtol=1e-10)
    given_theta = losses.nb.at_fixed_theta()
    fixed = given_theta(counts, log_mu, theta, cells)
    assert torch.equal(fixed, losses.nb_deviance(counts, log_mu, theta, cells) / 2)
    moved = given_theta(counts, log_mu + 0.3, theta, cells) - fixed
    full = stats.nbinom.logpmf(counts, theta, theta / (theta + (log_mu + 0.3).exp())) - log_pmf
    assert np.allclose(moved.numpy(), -full, rtol=1e-9, atol=1e-12)


def test_only_nb_gives_theta_a_gradient():
    for loss in ALL:
        counts, log_mu, theta, cells = batch(3)
        theta.requires_grad_()
        loss(counts, log_mu.requires_grad_(), theta, cells).sum().backward()
        assert (theta.grad is not None and bool(theta.grad.abs().sum() > 0)) == loss.identifies_theta


def test_nb_recovers_theta_from_pseudo_bulk_sums():
    """Planted theta, rows of unequal numbers of cells: the sum of n cells has dispersion n theta."""
    generator = torch.Generator().manual_seed(4)
    cells = torch.randint(1, 9, (20_000,), generator=generator).double()
    theta, mu = 0.8, 3.0
    rate = torch._standard_gamma(cells * theta, generator=generator) * mu / theta
    counts = torch.poisson(rate, generator=generator)[:, None]
    log_mu = (cells * mu).log()[:, None]

    def objective(log_theta):
        size = torch.tensor([np.exp(log_theta)], requires_grad=True)
        return losses.nb(counts, log_mu, size, cells).sum().item()

    found = np.exp(optimize.minimize_scalar(objective, bounds=(-3, 3), method="bounded").x)
    # Standard error of log theta is about 0.015 here.
    assert found == pytest.approx(theta, rel=0.06)


@pytest.mark.parametrize("loss", ALL[3:], ids=NAMES[3:])
def test_squared_errors_compare_means_per_cell_weighted_by_cells(loss):
    counts, log_mu, theta, _ = batch(5)
    cells = torch.tensor([1.0, 3.0, 2.0, 9.0, 1.0, 5.0], dtype=torch.float64)
    n = cells.numpy()[:, None]
    observed, expected = counts.numpy() / n, log_mu.exp().numpy() / n
    scale = {"mse_log1p": np.log1p, "mse_anscombe": lambda x: 2 * np.sqrt(x + 3 / 8)}[loss.name]
    assert np.allclose(loss(counts, log_mu, theta, cells), n * (scale(observed) - scale(expected)) ** 2, rtol=1e-10)


@pytest.mark.parametrize("loss", ALL[1:], ids=NAMES[1:])
def test_loss_per_cell_of_identical_cells_is_that_of_their_sum(loss):
    counts, log_mu, theta, ones = batch(6)
    n = 7.0
    single = loss(counts, log_mu, theta, ones).sum() / ones.sum()
    summed = loss(n * counts, log_mu + np.log(n), theta, n * ones).sum() / (n * ones).sum()
    assert summed.item() == pytest.approx(single.item(), rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "mu", "biased"),
    [
        (losses.mse_anscombe, 1.0, 0.77),
        (losses.mse_log1p, 1.0, 0.71),
        (losses.mse_anscombe, 5.0, 4.20),
        (losses.mse_log1p, 5.0, 3.67),
        (losses.mse_anscombe, 20.0, 17.5),
        (losses.mse_log1p, 20.0, 15.1),
    ],
)
def test_the_bias_that_the_docstrings_name(loss, mu, biased):
    """Minimum of the expected loss on single cells at theta = 2, by summation over the whole law."""
    y = torch.arange(600, dtype=torch.float64)[:, None]
    weight = torch.from_numpy(stats.nbinom.pmf(y.numpy(), 2, 2 / (2 + mu)))
    theta, ones = torch.tensor([2.0], dtype=torch.float64), torch.ones(600, dtype=torch.float64)

    def expected(chosen, guess):
        return (weight * chosen(y, torch.full_like(y, guess), theta, ones)).sum().item()

    best = np.exp(optimize.minimize_scalar(lambda x: expected(loss, x), bounds=(-3, 4), method="bounded").x)
    assert best == pytest.approx(biased, rel=0.01)
    for unbiased in (losses.nb, losses.poisson_deviance):
        found = optimize.minimize_scalar(lambda x: expected(unbiased, x), bounds=(-3, 4), method="bounded").x  # noqa: B023
        assert np.exp(found) == pytest.approx(mu, rel=1e-3)


def test_a_loss_is_documented_by_its_formula():
    """Where a reader looks for it: in the module, and under the words, of the function."""
    own = CountLoss("own", count_of_cells)
    assert (own.__doc__, own.__module__) == ("Count the cells of a row.", count_of_cells.__module__)
    assert losses.nb.__module__ == "pertexp.losses.counts"


def count_of_cells(counts, log_mu, theta, cells):
    """Count the cells of a row."""
    return cells
