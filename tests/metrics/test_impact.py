"""Metrics of impacts: against scikit-learn and scipy, against naive loops, and what must not change them."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from scored_profiles import view
from sklearn.metrics import average_precision_score, roc_auc_score

from pertexp.metrics.impact import IMPACT
from pertexp.metrics.ranking import auroc

NAMES = list(IMPACT)
DEPTHED = [name for name in NAMES if "_at_" in name]


@pytest.fixture
def scored():
    """Impacts that know something of the truth: 24 units of 60 genes, each its own target."""
    plain = view(n=12, contexts=2)
    rng = np.random.default_rng(1)
    size = np.abs(plain.truth - plain.control)
    return replace(plain, prediction=size * np.exp(rng.normal(size=size.shape)))


def values(name, scored):
    return IMPACT[f"impact/{name}"].function(scored)


def loop(scored, one):
    """`one` of score, size of the effect, |t| and label, own targets left out."""
    size = np.abs(scored.truth - scored.control)
    label = scored.de_fdr < 0.05
    rows = zip(scored.prediction, size, scored.de_score, label, ~scored.own_target, strict=True)
    return [one(score[use], far[use], t[use], moved[use]) for score, far, t, moved, use in rows]


@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_those_of_sklearn(scored, ties):
    if ties:
        scored = replace(scored, prediction=np.round(scored.prediction))
        assert len(np.unique(scored.prediction)) < 40
    precision = loop(scored, lambda score, _far, _t, moved: average_precision_score(moved, score))
    area = loop(scored, lambda score, _far, _t, moved: roc_auc_score(moved, score))
    np.testing.assert_allclose(values("auprc", scored), precision, rtol=1e-12)
    np.testing.assert_allclose(values("auroc", scored), area, rtol=1e-12)
    assert np.std(precision) > 0.01


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlations_are_those_of_scipy(scored, ties):
    if ties:
        scored = replace(scored, prediction=np.round(scored.prediction), de_score=np.round(scored.de_score))
    of_size = loop(scored, lambda score, far, _t, _moved: spearmanr(score, far).statistic)
    of_t = loop(scored, lambda score, _far, t, _moved: spearmanr(score, t).statistic)
    np.testing.assert_allclose(values("spearman", scored), of_size, rtol=1e-12)
    np.testing.assert_allclose(values("spearman_t", scored), of_t, rtol=1e-12)


@pytest.mark.parametrize("k", [20, 50])
def test_the_top_of_the_ranking_is_that_of_a_loop(scored, k):
    def top(values):
        return set(np.argsort(-values, kind="stable")[:k].tolist())

    precision = loop(scored, lambda score, _far, _t, moved: np.mean([moved[gene] for gene in top(score)]))
    overlap = loop(scored, lambda score, _far, t, _moved: len(top(score) & top(t)) / k)
    np.testing.assert_allclose(values(f"precision_at_{k}", scored), precision, rtol=1e-12)
    np.testing.assert_allclose(values(f"overlap_at_{k}", scored), overlap, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [lambda x: 7 * x, np.log1p, lambda x: x**3, np.sqrt])
def test_monotone_transforms_of_scores_change_nothing(scored, name, change):
    rounded = replace(scored, prediction=np.round(scored.prediction, 1))  # with ties
    other = replace(rounded, prediction=change(rounded.prediction))
    np.testing.assert_allclose(IMPACT[name].function(other), IMPACT[name].function(rounded), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_genes_changes_nothing(scored, name):
    rounded = replace(scored, prediction=np.round(scored.prediction, 1), de_score=np.round(scored.de_score, 1))
    order = np.random.default_rng(3).permutation(60)
    parts = {field.name for field in fields(rounded)} - {"context", "fold"}
    moved = {part: getattr(rounded, part)[..., order] for part in parts}
    np.testing.assert_allclose(IMPACT[name].function(replace(rounded, **moved)), IMPACT[name].function(rounded))


@pytest.mark.parametrize("name", NAMES)
def test_own_targets_do_not_count(scored, name):
    loud = {part: np.where(scored.own_target, value, getattr(scored, part))
            for part, value in (("prediction", 1e6), ("de_score", 1e6), ("de_fdr", 0.0), ("truth", 1e6))}  # fmt: skip
    np.testing.assert_array_equal(IMPACT[name].function(replace(scored, **loud)), IMPACT[name].function(scored))


def test_the_truth_itself_is_the_best_and_its_opposite_the_worst(scored):
    known = replace(scored, prediction=np.abs(scored.truth - scored.control))
    opposite = replace(known, prediction=known.prediction.max() - known.prediction)
    for name in ("auprc", "auroc", "spearman", "spearman_t", "overlap_at_20"):
        np.testing.assert_allclose(values(name, known), 1.0)
        assert (values(name, opposite) < 0.4).all()
    np.testing.assert_allclose(values("spearman", opposite), -1.0)
    np.testing.assert_allclose(values("auroc", opposite), 0.0, atol=1e-12)


def test_scores_that_are_all_equal_score_what_chance_gives(scored):
    flat = replace(scored, prediction=np.full_like(scored.prediction, 0.7))
    prevalence = scored.significant.sum(axis=1) / 59
    np.testing.assert_allclose(values("auprc", flat), prevalence)
    np.testing.assert_allclose(values("precision_at_20", flat), prevalence)
    np.testing.assert_allclose(values("overlap_at_20", flat), 20 / 59)
    np.testing.assert_array_equal(values("auroc", flat), 0.5)
    for name in ("spearman", "spearman_t"):
        np.testing.assert_array_equal(values(name, flat), -1.0)


def test_where_truth_leaves_nothing_to_find_there_is_no_value(scored):
    quiet = replace(scored, de_fdr=np.ones_like(scored.de_fdr))
    for name in ("auprc", "auroc", "precision_at_20"):
        assert np.isnan(values(name, quiet)).all()
    everything = replace(scored, de_fdr=np.zeros_like(scored.de_fdr))
    assert np.isnan(values("auprc", everything)).all()
    still = replace(scored, truth=scored.control)
    assert np.isnan(values("spearman", still)).all()
    untested = replace(scored, de_score=np.full_like(scored.de_score, np.nan))
    for name in ("spearman_t", "overlap_at_20"):
        assert np.isnan(values(name, untested)).all()


def test_a_depth_needs_more_genes_than_it_takes(scored):
    genes = 21
    few = replace(scored, **{part: getattr(scored, part)[..., :genes] for part in (
        "prediction", "truth", "control", "de_score", "de_fdr", "own_target",
    )})  # fmt: skip
    own = few.own_target.any(axis=1)  # 20 genes are left
    assert own.all()
    assert np.isnan(values("precision_at_20", few)).all()
    assert np.isnan(values("overlap_at_20", few)).all()
    none_own = replace(few, own_target=np.zeros_like(few.own_target))
    assert np.isfinite(values("overlap_at_20", none_own)).all()


def test_infinite_t_ranks_first(scored):
    sharp = scored.de_score.copy()
    sharp[:, 40] = np.inf
    first = replace(scored, de_score=sharp, prediction=np.where(np.arange(60) == 40, 1e9, scored.prediction))
    assert (values("spearman_t", first) > 0).all()
    assert np.isfinite(values("overlap_at_20", first)).all()


def test_the_rows_say_what_is_best_and_what_they_compare():
    assert {metric.output for metric in IMPACT.values()} == {"impact"}
    assert {metric.family for metric in IMPACT.values()} == {"impact"}
    assert {metric.best for metric in IMPACT.values()} == {1.0}
    assert {name for name, metric in IMPACT.items() if metric.worst == -1.0} == {"impact/spearman", "impact/spearman_t"}
    assert {name for name, metric in IMPACT.items() if not metric.needs_de} == {"impact/spearman"}
    assert {metric.negative for metric in IMPACT.values()} == {"mean_impact"}
    assert [name for name, metric in IMPACT.items() if metric.level == "headline"] == NAMES[:2]


def test_the_area_under_the_curve_without_both_classes_has_no_value():
    assert np.isnan(auroc(np.arange(3.0), np.ones(3, dtype=bool)))
    assert np.isnan(auroc(np.arange(3.0), np.zeros(3, dtype=bool)))
