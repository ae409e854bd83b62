"""Dependence of features, losses and metrics: numpy, analytic values of Gaussians, planted and absent dependence."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from pertexp.config.errors import DataError
from pertexp.losses.dependence import MutualInformation, cross_correlation
from pertexp.metrics.dependence import excess_cross_correlation, linear_probe


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(n: int, width: int, r: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Standard normal features, those of the same number correlated by r."""
    a = normal(n, width, seed=seed)
    return a, r * a + (1 - r**2) ** 0.5 * normal(n, width, seed=seed + 1)


def test_it_is_that_of_numpy():
    a, b = normal(40, 3), normal(40, 5, seed=1) + normal(40, 3)[:, :1]
    expected = np.square(np.corrcoef(a.T, b.T)[:3, 3:]).mean()
    np.testing.assert_allclose(cross_correlation(a, b).item(), expected, rtol=1e-12)
    np.testing.assert_allclose(excess_cross_correlation(a.numpy(), b.numpy()).value, expected, rtol=1e-12)


def test_scale_shift_sign_and_order_do_not_matter():
    a, b = pair(50, 4, 0.5)
    value = cross_correlation(a, b)
    factor = torch.tensor([1e-6, 1e6, -3.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(cross_correlation(a * factor, b), value)
    torch.testing.assert_close(cross_correlation(a + torch.arange(4) * 50, b - 7), value)
    torch.testing.assert_close(cross_correlation(b, a), value)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cross_correlation(a[order], b[order]), value)


def test_features_cannot_be_shrunk_out_of_it():
    """An absolute ε in the denominator would call these uncorrelated."""
    a, _ = pair(50, 1, 0.5)
    assert cross_correlation((a * 1e-5).float(), (a * 1e-5).float()).item() == pytest.approx(1, rel=1e-5)


def test_dependence_that_cancels_in_one_flat_correlation_is_seen():
    a = normal(500, 2)
    b = a * torch.tensor([1.0, -1.0])
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1
    assert cross_correlation(a, b) > 0.45


@pytest.mark.parametrize("n", [10, 50, 200])
def test_independent_features_give_one_over_n(n):
    values = [cross_correlation(normal(n, 30, seed=s), normal(n, 30, seed=1000 + s)).item() for s in range(20)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - 1 / (n - 1)) < 4 * error < 0.1 / n


def test_a_constant_column_counts_as_nothing_and_its_gradient_is_finite():
    for constant in (0.0, 0.1, 12345.678):
        a, b = normal(30, 3).float(), normal(30, 2, seed=1).float()
        a[:, 1] = constant
        a.requires_grad_()
        b.requires_grad_()
        value = cross_correlation(a, b)
        value.backward()
        varying = cross_correlation(a.detach()[:, [0, 2]], b.detach())
        torch.testing.assert_close(value.detach(), varying * 2 / 3)
        assert a.grad.isfinite().all()
        assert b.grad.isfinite().all()
        assert not a.grad[:, 1].any()
        assert a.grad[:, 0].any()


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_samples_give_zero(n):
    a = torch.randn(n, 3, requires_grad=True)
    value = cross_correlation(a, torch.randn(n, 2))
    value.backward()
    assert value == 0
    assert a.grad.isfinite().all()


def test_descent_takes_linear_dependence_away():
    a, b = pair(100, 3, 0.9)
    b.requires_grad_()
    optimizer = torch.optim.Adam([b], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        value = cross_correlation(a, b)
        value.backward()
        optimizer.step()
    assert value < 1e-3
    assert (b.std(dim=0) > 0.3).all()  # not by collapse


def learned(a: torch.Tensor, b: torch.Tensor, steps: int = 1500) -> MutualInformation:
    torch.manual_seed(0)
    module = MutualInformation(a.shape[1], b.shape[1], width=32).double()
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, steps)
    for step in range(steps):
        at = torch.randint(len(a), (256,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        sum(module(a[at], b[at])).backward()
        optimizer.step()
        schedule.step()
    return module


@pytest.mark.medium
@pytest.mark.parametrize("r", [0.0, 0.5, 0.8])
def test_the_bound_comes_near_its_value_for_gaussians(r):
    """True conditional: CLUB is d r²/(1 − r²), above the mutual information −d/2 log(1 − r²); 0 for independent ones.

    Left over: the fit of q from 20,000 pairs, and the noise of as many unseen ones.
    """
    width = 2
    module = learned(*pair(20_000, width, r))
    bound, nll = module(*pair(20_000, width, r, seed=10))
    exact, information = width * r**2 / (1 - r**2), -width / 2 * np.log(1 - r**2)
    assert abs(bound.item() - exact) < 0.02 + 0.05 * exact
    assert bound.item() > information - 0.02
    entropy = 0.5 * np.log(2 * np.pi * np.e * (1 - r**2))
    assert abs(nll.item() - entropy) < 0.02


def test_the_bound_is_the_mean_over_all_pairs():
    a, b = pair(9, 3, 0.7)
    module = MutualInformation(3, 3, width=8).double()
    mean, raw = module.network(a).chunk(2, dim=1)
    q = torch.distributions.Normal(mean, (4 * torch.tanh(raw / 8)).exp())
    own = q.log_prob(b).sum(dim=1).mean()
    every = torch.stack([q.log_prob(row).sum(dim=1) for row in b]).mean()
    bound, nll = module(a, b)
    torch.testing.assert_close(bound, own - every)
    torch.testing.assert_close(nll, -own / 3)


def test_each_gradient_goes_where_it_belongs():
    a, b = (x.requires_grad_() for x in pair(20, 3, 0.7))
    module = MutualInformation(3, 3, width=8).double()
    bound, nll = module(a, b)
    weights = list(module.parameters())
    of_bound = torch.autograd.grad(bound, [a, b, *weights], allow_unused=True)
    assert of_bound[0].any()
    assert of_bound[1].any()
    assert all(gradient is None for gradient in of_bound[2:])
    of_nll = torch.autograd.grad(nll, [a, b, *weights], allow_unused=True)
    assert of_nll[0] is None
    assert of_nll[1] is None
    assert all(gradient.any() for gradient in of_nll[2:])


def test_the_bound_stays_finite_for_far_features():
    module = MutualInformation(2, 2, width=8)
    a = torch.full((4, 2), 1e6, requires_grad=True)
    bound, nll = module(a, torch.randn(4, 2))
    (bound + nll).backward()
    assert bound.isfinite()
    assert nll.isfinite()
    assert a.grad.isfinite().all()


def test_excess_is_zero_for_independent_features_and_the_rest_for_planted_ones():
    excesses = [
        excess_cross_correlation(normal(60, 8, seed=s).numpy(), normal(60, 8, seed=500 + s).numpy(), seed=s)
        for s in range(20)
    ]
    assert all(each.permutation_mean == pytest.approx(1 / 59, rel=0.2) for each in excesses)
    spread = np.std([each.excess for each in excesses]) / np.sqrt(20)
    assert abs(np.mean([each.excess for each in excesses])) < 4 * spread
    a, b = pair(2000, 4, 0.6)
    planted = excess_cross_correlation(a.numpy(), b.numpy())
    assert planted.excess == pytest.approx(0.36 / 4, rel=0.1)
    assert planted.excess == planted.value - planted.permutation_mean


def test_excess_follows_its_seed_and_constant_columns_count_zero():
    a, b = (x.numpy().copy() for x in pair(30, 4, 0.6))
    first, again, other = (excess_cross_correlation(a, b, 5, seed) for seed in (1, 1, 2))
    assert first == again
    assert excess_cross_correlation(a, b) == excess_cross_correlation(a, b, n_permutations=20, seed=0)
    assert first.permutation_mean != other.permutation_mean
    a[:, :2] = 0.1
    assert excess_cross_correlation(a, b).value == pytest.approx(excess_cross_correlation(a[:, 2:], b).value / 2)
    assert excess_cross_correlation(np.full((30, 2), 0.1), b) == (0, 0, 0)


def planted(shift: float, n: int = 600, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Ten features, and classes of unequal size; one feature per class is shifted."""
    rng = np.random.default_rng(0)
    label = rng.choice(classes, size=n, p=np.array([0.7, 0.2, 0.1]))
    features = rng.normal(size=(n, 10))
    features[np.arange(n), label] += shift
    return features * np.logspace(-3, 3, 10), label


def test_a_probe_reads_what_is_planted_and_guesses_otherwise():
    absent, present = linear_probe(*planted(0.0)), linear_probe(*planted(4.0))
    assert absent.chance == present.chance == 1 / 3
    assert abs(absent.excess) < 0.08  # a recall of 60 rows has a standard error of 0.06, and a third of it counts
    assert present.balanced_accuracy > 0.9


def test_a_probe_weighs_a_rare_class_like_the_others():
    """One feature, shifted by d in one row of twenty: the best balanced accuracy is Φ(d/2)."""
    rng = np.random.default_rng(0)
    label = np.arange(4000) % 20 == 0
    probe = linear_probe((rng.normal(size=4000) + 1.5 * label)[:, None], label)
    assert probe.balanced_accuracy == pytest.approx(norm.cdf(0.75), abs=0.06)  # a recall of 200 rows: ± 0.03, by half


def test_a_probe_does_not_depend_on_the_names_of_classes():
    features, label = planted(1.0)
    names = np.array(["HeLa", "K562", "IMR90"])[label]
    assert linear_probe(features, names) == pytest.approx(linear_probe(features, label, seed=0))


def test_a_probe_does_not_take_a_group_for_its_class():
    """Every group has a place of its own and one class by chance: rows leak, groups do not."""
    rng = np.random.default_rng(1)
    label = np.repeat(np.arange(30) % 2, 20)
    group = np.repeat(np.arange(30), 20)
    features = rng.normal(size=(30, 40))[group] + 0.1 * rng.normal(size=(600, 40))
    assert linear_probe(features, label).balanced_accuracy > 0.99
    assert linear_probe(features, label, group).balanced_accuracy < 0.7  # 30 groups: a standard error of 0.09


@pytest.mark.parametrize(
    ("features", "classes", "groups", "found"),
    [
        (np.zeros((4, 1)), np.zeros(4), None, "two classes, found 1"),
        (np.zeros((3, 1)), np.array([0, 0, 1]), None, "Class 1 .* lies in 1 row"),
        (np.zeros((4, 1)), np.array([0, 0, 1, 1]), np.array(["a", "b", "a", "a"]), "Class 1 .* lies in 1 group"),
        (np.array([[0.0], [np.nan]]), np.array([0, 1]), None, "NaN"),
    ],
)
def test_a_probe_that_cannot_be_is_refused(features, classes, groups, found):
    with pytest.raises(DataError, match=found):
        linear_probe(features, classes, groups)
