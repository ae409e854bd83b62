"""Correlations against scipy, and where they have no value."""

import numpy as np
import pytest
from scipy import stats

from pertexp.metrics.correlation import contributions, pearson, spearman, standardised

A, B = np.random.default_rng(0).integers(0, 9, (2, 4, 12)).astype(float)


def test_pearson_row_by_row():
    expected = [stats.pearsonr(a, b).statistic for a, b in zip(A, B, strict=True)]
    np.testing.assert_allclose(pearson(A, B), expected, atol=1e-14)
    np.testing.assert_allclose(pearson(A, 2 * A), 1.0, atol=1e-14)
    np.testing.assert_allclose(pearson(A, -A), -1.0, atol=1e-14)


def test_spearman_with_ties():
    assert spearman(A[0], B[0]) == pytest.approx(stats.spearmanr(A[0], B[0]).statistic, abs=1e-14)
    assert spearman(np.array([1.0, 2.0]), np.array([5.0, 3.0])) == pytest.approx(-1.0)
    assert np.isnan(spearman(A[0, :1], B[0, :1]))


def test_rows_of_three_axes_are_standardised_along_the_last():
    found = standardised(np.stack([A, B]))
    np.testing.assert_allclose(found.mean(axis=2), 0, atol=1e-15)
    np.testing.assert_allclose((found**2).sum(axis=2), 1)


def test_what_does_not_vary_has_no_correlation():
    flat = A.copy()
    flat[1] = 3.0
    np.testing.assert_array_equal(np.isnan(pearson(flat, B)), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(pearson(B, flat)), [False, True, False, False])


def test_contributions_have_the_correlation_as_their_mean():
    found = contributions(A[0], B[0])
    expected = len(A[0]) * stats.zscore(A[0]) * stats.zscore(B[0]) / len(A[0])
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert found.mean() == pytest.approx(np.corrcoef(A[0], B[0])[0, 1], abs=1e-14)
