"""The metrics of `core` that look at tested genes, against naive loops, sklearn and their chance levels."""

from dataclasses import replace

import numpy as np
import pytest
from scored_profiles import values, view
from sklearn.metrics import average_precision_score

from pertexp.metrics.ranking import average_precision


@pytest.fixture
def scored():
    return view(n=10, contexts=2, noise=2.0)


def loop(scored, one):
    rows = zip(scored.prediction, scored.truth, scored.control, scored.de_fdr, scored.own_target, strict=True)
    return [one(p - c, t - c, (f < 0.05) & ~own, ~own) for p, t, c, f, own in rows]


def test_overlap_is_that_of_a_loop(scored):
    def one(predicted, true, significant, allowed):
        genes = np.flatnonzero(allowed)
        top = genes[np.argsort(-np.abs(predicted[genes]), kind="stable")][: significant.sum()]
        return significant[top].mean()

    np.testing.assert_allclose(values("de_overlap", scored), loop(scored, one), rtol=1e-12)


def test_direction_is_that_of_a_loop(scored):
    expected = loop(scored, lambda p, t, s, _: np.mean(np.sign(p[s]) == np.sign(t[s])))
    np.testing.assert_allclose(values("de_direction", scored), expected, rtol=1e-12)


def test_average_precision_is_that_of_sklearn(scored):
    expected = loop(scored, lambda p, _, s, a: average_precision_score(s[a], np.abs(p[a])))
    np.testing.assert_allclose(values("de_auprc", scored), expected, rtol=1e-12)


def test_average_precision_with_ties_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    for _ in range(50):
        score, label = rng.integers(4, size=30).astype(float), rng.uniform(size=30) < 0.3
        if 0 < label.sum() < 30:
            assert average_precision(score, label) == pytest.approx(average_precision_score(label, score), rel=1e-12)


def test_no_effect_scores_what_chance_gives(scored):
    idle = replace(scored, prediction=scored.control)
    prevalence = scored.significant.sum(axis=1) / (~scored.own_target).sum(axis=1)
    np.testing.assert_allclose(values("de_overlap", idle), prevalence, rtol=1e-12)
    np.testing.assert_allclose(values("de_auprc", idle), prevalence, rtol=1e-12)
    np.testing.assert_array_equal(values("de_direction", idle), 0.5)


@pytest.mark.parametrize("name", ["de_overlap", "de_direction", "de_auprc"])
def test_without_a_significant_gene_there_is_nothing_to_find(scored, name):
    quiet = replace(scored, de_fdr=np.ones_like(scored.de_fdr))
    assert np.isnan(values(name, quiet)).all()
    assert np.nanmax(values(name, replace(scored, prediction=scored.truth))) == 1.0


def test_weighted_error_is_that_of_a_loop(scored):
    expected = []
    for p, t, score in zip(scored.prediction, scored.truth, scored.rest_score, strict=True):
        weight = ((score - score.min()) / (score.max() - score.min())) ** 2
        expected.append(np.sum(weight / weight.sum() * (p - t) ** 2))
    np.testing.assert_allclose(values("wmse", scored), expected, rtol=1e-12)


def test_weights_that_are_not_there_or_infinite(scored):
    rest = scored.rest_score.copy()
    rest[0] = np.nan
    rest[1, 3] = np.inf
    rest[2] = 1.0
    got = values("wmse", replace(scored, rest_score=rest))
    assert np.isnan(got[0])
    assert np.isfinite(got[1])
    assert got[2] == pytest.approx(((scored.prediction - scored.truth)[2] ** 2).mean())


def test_error_on_the_top_genes_is_that_of_a_loop(scored):
    expected = []
    for u in range(len(scored.truth)):
        genes = np.flatnonzero(~scored.own_target[u])
        top = genes[np.argsort(-scored.de_score[u, genes])][:20]
        expected.append(((scored.prediction - scored.truth)[u, top] ** 2).mean())
    np.testing.assert_allclose(values("mse_top20", scored), expected, rtol=1e-12)


def test_centroid_accuracy_is_that_of_a_loop(scored):
    expected = []
    for u in range(20):
        pool = [v for v in range(20) if scored.context[v] == scored.context[u]]
        own = np.linalg.norm(scored.prediction[u] - scored.truth[u])
        farther = [np.linalg.norm(scored.prediction[u] - scored.truth[v]) > own for v in pool if v != u]
        expected.append(np.mean(farther))
    np.testing.assert_allclose(values("centroid_accuracy", scored), expected)
