"""Kernel ridge regression of groups against scikit-learn on units, and against fits without the group."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from pertexp.nn.kernel_ridge import (
    RIDGES,
    Observed,
    choose,
    dual_weights,
    even_shares,
    left_out_errors,
)

# Group 3 is all of context 2, groups have one to three units, and group 1 has two in one context.
GROUP = np.array([0, 0, 1, 1, 2, 3, 3, 3, 4, 5])
CONTEXT = np.array([0, 1, 1, 1, 0, 0, 1, 2, 0, 1])
GROUPS = 6


@pytest.fixture(params=[4, 25], ids=["narrow", "wide"])
def targets(request):
    return np.random.default_rng(1).normal(size=(GROUP.size, request.param))


@pytest.fixture
def kernel():
    features = np.random.default_rng(2).normal(size=(GROUPS, 3))
    return features @ features.T


def means(targets, context, wanted):
    return np.stack([(targets[context == c] if (context == c).any() else targets).mean(axis=0) for c in wanted])


def predicted(kernel, ridge, targets, kept, wanted):
    """The mean of the context and scikit-learn's ridge of the rest, fitted on the kept units."""
    group, context = GROUP[kept], CONTEXT[kept]
    rest = targets[kept] - means(targets[kept], context, context)
    fit = KernelRidge(alpha=ridge, kernel="precomputed").fit(kernel[np.ix_(group, group)], rest)
    return means(targets[kept], context, CONTEXT[wanted]) + fit.predict(kernel[np.ix_(GROUP[wanted], group)])


@pytest.mark.parametrize("ridge", [0.01, 1.0, 30.0])
def test_the_regression_of_groups_is_that_of_their_units(kernel, targets, ridge):
    fit = KernelRidge(alpha=ridge, kernel="precomputed").fit(kernel[np.ix_(GROUP, GROUP)], targets)
    found = kernel @ dual_weights(kernel, ridge, Observed(targets, GROUP, CONTEXT))
    np.testing.assert_allclose(found[GROUP], fit.predict(kernel[np.ix_(GROUP, GROUP)]), rtol=1e-9, atol=1e-10)


def test_errors_are_those_of_fits_without_the_group(kernel, targets):
    ridges = (0.01, 1.0, 30.0)
    expected = np.zeros(len(ridges))
    for number, ridge in enumerate(ridges):
        for group in range(GROUPS):
            rows = np.flatnonzero(group == GROUP)
            missed = targets[rows] - predicted(kernel, ridge, targets, group != GROUP, rows)
            expected[number] += len(rows) * np.square(missed.mean(axis=0)).sum()
    found = left_out_errors(kernel, ridges, Observed.of(targets, GROUP, CONTEXT))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_wide_targets_become_narrow():
    wide = np.random.default_rng(3).normal(size=(GROUP.size, 500))
    narrow = Observed.of(wide, GROUP, CONTEXT).targets
    assert narrow.shape == (GROUP.size, GROUP.size)
    np.testing.assert_allclose(narrow @ narrow.T, wide @ wide.T, rtol=1e-9, atol=1e-9)


def kernels_and_effects(n_groups, seed=0):
    """Two kernels of groups, and effects in two contexts that follow the first."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, n_groups, 3))
    features -= features.mean(axis=1, keepdims=True)
    group, context = np.repeat(np.arange(n_groups), 2), np.tile([0, 1], n_groups)
    effects = (features[0] @ rng.normal(size=(3, 40)))[group] + 0.1 * rng.normal(size=(group.size, 40))
    return features @ features.transpose(0, 2, 1), effects, group, context


def test_the_kernel_that_effects_follow_is_chosen():
    kernels, effects, group, context = kernels_and_effects(30)
    chosen = choose(kernels, Observed.of(effects, group, context))
    np.testing.assert_array_equal(chosen.weights, [1.0, 0.0])
    assert chosen.error < 0.01 * chosen.error_of_means
    order = np.random.default_rng(1).permutation(30)
    permuted = choose(np.stack([kernels[0][np.ix_(order, order)], kernels[0]]), Observed.of(effects, group, context))
    np.testing.assert_array_equal(permuted.weights, [0.0, 1.0])


def test_the_choice_has_the_least_error_of_all_candidates():
    kernels, effects, group, context = kernels_and_effects(12, seed=4)
    observed = Observed.of(effects + effects[::-1], group, context)
    errors = {
        (tuple(weights), ridge): left_out_errors(np.tensordot(weights, kernels, axes=1), [ridge], observed)[0]
        for weights in even_shares(2)
        for ridge in RIDGES
    }
    chosen = choose(kernels, observed)
    assert (tuple(chosen.weights), chosen.ridge) == min(errors, key=errors.get)
    assert chosen.error == pytest.approx(min(errors.values()), rel=1e-9)


def test_without_a_kernel_that_helps_the_means_are_kept():
    """Each group is the opposite of the one that its kernel says it is like."""
    base = np.random.default_rng(5).normal(size=(1, 20))
    effects = np.concatenate([base, -base, 3 * base, -3 * base])
    alike = np.kron(np.eye(2), np.ones((2, 2)))
    chosen = choose(alike[None], Observed.of(effects, np.arange(4), np.zeros(4, dtype=int)))
    np.testing.assert_array_equal(chosen.weights, [0.0])
    # Left out, a group is predicted at the mean of the other three: the error is (4/3)² of its deviation.
    assert chosen.error == chosen.error_of_means == pytest.approx(16 / 9 * np.square(effects).sum())


def test_of_equal_kernels_the_first_is_chosen():
    kernels, effects, group, context = kernels_and_effects(20)
    for same in (kernels[[0, 0]], np.stack([kernels[0], kernels[0] * (1 + 1e-14)])):
        np.testing.assert_array_equal(choose(same, Observed.of(effects, group, context)).weights, [1.0, 0.0])


def test_every_set_of_kernels_has_even_shares():
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [1 / 3] * 3]
    np.testing.assert_allclose(even_shares(3), expected)
