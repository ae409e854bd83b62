"""Genetic interaction scores against cell-gears, scikit-learn, and cases known beforehand."""

import numpy as np
import pytest
from frozen import read_golden

from pertexp.config.errors import DataError
from pertexp.metrics import interactions
from pertexp.metrics.interactions import distance_correlation, interaction_scores, spatial_median, theil_sen_pair


def test_they_are_the_scores_of_the_package():
    golden = {key.removeprefix("interaction/"): v for key, v in read_golden("gears").items() if "interaction/" in key}
    found = interaction_scores(golden["first"], golden["second"], golden["double"])
    for name, value in found.items():
        exact = name.startswith("dcor") or name == "eq_contr"  # the package stops its median at steps of 1e-3
        np.testing.assert_allclose(value, golden[name], rtol=1e-10 if exact else 0, atol=0 if exact else 1e-3)


def test_the_slopes_are_those_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    y = x @ [1.3, -0.4] + 0.1 * rng.normal(size=40)
    y[:5] += 20  # outliers
    theirs = linear_model.TheilSenRegressor(fit_intercept=False, max_subpopulation=10**5, tol=1e-12, max_iter=5000)
    theirs.fit(x, y)
    np.testing.assert_allclose(theil_sen_pair(x, y), theirs.coef_, rtol=1e-5)


def test_the_spatial_median_has_no_pull():
    points = np.random.default_rng(1).normal(size=(50, 2)) ** 3
    gap = points - spatial_median(points)
    pull = (gap / np.linalg.norm(gap, axis=1, keepdims=True)).sum(axis=0)
    assert np.linalg.norm(pull) < 1e-5
    heavy = np.array([[0.0, 0.0]] * 5 + [[1.0, 1.0], [2.0, -1.0]])
    np.testing.assert_allclose(spatial_median(heavy), [0, 0], atol=1e-6)


def test_an_additive_pair_and_a_suppressed_one():
    first, second = np.random.default_rng(2).normal(size=(2, 500))
    additive = interaction_scores(first, second, first + second)
    np.testing.assert_allclose([additive["c1"], additive["c2"], additive["corr_fit"]], 1, rtol=1e-8)
    np.testing.assert_allclose(additive["mag"], np.sqrt(2), rtol=1e-8)
    epistatic = interaction_scores(first, second, first)
    assert epistatic["dominance"] > 3 > additive["dominance"]
    assert epistatic["eq_contr"] < additive["eq_contr"]
    assert interaction_scores(first, second, 2 * (first + second))["mag"] > additive["mag"]


def test_distance_correlation_by_its_definition():
    x, y = np.random.default_rng(3).normal(size=(2, 12))

    def centred(v):
        d = [[abs(a - b) for b in v] for a in v]
        rows = [sum(r) / len(r) for r in d]
        mean = sum(rows) / len(rows)
        return [[d[i][j] - rows[i] - rows[j] + mean for j in range(len(v))] for i in range(len(v))]

    a, b = centred(x), centred(y)
    pairs = [(i, j) for i in range(12) for j in range(12)]
    cross, own_a, own_b = (sum(p[i][j] * q[i][j] for i, j in pairs) for p, q in ((a, b), (a, a), (b, b)))
    np.testing.assert_allclose(distance_correlation(x, y), np.sqrt(cross / np.sqrt(own_a * own_b)), rtol=1e-12)
    np.testing.assert_allclose(distance_correlation(x, 3 - 2 * x), 1)
    assert distance_correlation(x, np.ones(12)) == 0


def test_what_is_no_pair_is_refused():
    with pytest.raises(DataError, match="differ in length"):
        interaction_scores(np.ones(3), np.ones(4), np.ones(3))
    with pytest.raises(DataError, match="finite"):
        interaction_scores(np.ones(3), np.ones(3), np.array([1, np.nan, 2]))


@pytest.mark.parametrize(("most", "all_pairs"), [(45, True), (46, True), (44, False)])
def test_all_pairs_are_used_up_to_their_limit_and_drawn_ones_above(monkeypatch, most, all_pairs):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(10, 2))
    y = x @ [1.0, 2.0] + rng.normal(size=10)
    i, j = np.triu_indices(10, 1)
    solved = [np.linalg.solve(x[[a, b]], y[[a, b]]) for a, b in zip(i, j, strict=True)]
    monkeypatch.setattr(interactions, "MOST_PAIRS", most)
    found = theil_sen_pair(x, y)
    assert np.allclose(found, spatial_median(np.array(solved)), atol=1e-8) == all_pairs
    assert theil_sen_pair(x, y, seed=0) == found
    assert (theil_sen_pair(x, y, seed=1) == found) == all_pairs


def test_drawn_pairs_are_two_rows_each(monkeypatch):
    """A row paired with itself has no solution of its own, and would pull the median towards the least norm."""
    monkeypatch.setattr(interactions, "MOST_PAIRS", 2)
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    for seed in range(20):
        np.testing.assert_allclose(theil_sen_pair(x, x @ [1.5, -0.5], seed), (1.5, -0.5), atol=1e-8)
