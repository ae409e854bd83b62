"""Metrics of pairs against scikit-learn, with weights, ties and classes that are missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from pertexp.metrics.pairs import PAIRS, ScoredPairs, best_threshold, curve, reliability
from pertexp.metrics.registry import METRICS

ORACLE = {
    "auprc": lambda p, y, _c, w: sk.average_precision_score(y, p, sample_weight=w),
    "auroc": lambda p, y, _c, w: sk.roc_auc_score(y, p, sample_weight=w),
    "f1": lambda _p, y, called, w: sk.f1_score(y, called, sample_weight=w, zero_division=0.0),
    "precision": lambda _p, y, called, w: sk.precision_score(y, called, sample_weight=w, zero_division=0.0),
    "recall": lambda _p, y, called, w: sk.recall_score(y, called, sample_weight=w),
    "brier": lambda p, y, _c, w: sk.brier_score_loss(y, p, sample_weight=w),
}


def value(name: str, *parts: np.ndarray, **more: np.ndarray) -> float:
    found = PAIRS[name].function(ScoredPairs(*parts, **more))
    assert found.shape == (1,)
    return float(found[0])


def drawn(seed: int, n: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities with ties, labels of both classes, and calls."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    label[:2] = 0, 1
    probability = rng.integers(0, levels, n) / levels
    return probability, label, probability >= 0.4


@pytest.mark.medium
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), levels=st.sampled_from([1, 3, 10, 10_000]))
def test_equal_to_scikit_learn_with_weights_and_ties(seed, n, levels):
    probability, label, called = drawn(seed, n, levels)
    weight = np.random.default_rng(seed + 1).integers(0, 4, (5, n))
    weight[:, :2] += 1
    for name, oracle in ORACLE.items():
        assert value(name, probability, label, called) == pytest.approx(oracle(probability, label, called, None))
        found = PAIRS[name].function(ScoredPairs(probability, label, called, weight))
        np.testing.assert_allclose(found, [oracle(probability, label, called, row) for row in weight], rtol=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_a_weight_is_a_multiplicity_and_the_order_of_pairs_is_none(name):
    probability, label, called = drawn(3, 40, 7)
    times = np.random.default_rng(4).integers(0, 4, 40)
    times[:2] += 1
    weighed = PAIRS[name].function(ScoredPairs(probability, label, called, times[None]))[0]
    again = np.random.default_rng(5).permutation(np.repeat(np.arange(40), times))
    assert value(name, probability[again], label[again], called[again]) == pytest.approx(weighed, rel=1e-12)


@pytest.mark.parametrize("name", ["auprc", "auroc"])
def test_ranking_sees_order_alone(name):
    probability, label, _ = drawn(1, 50, 12)
    assert value(name, probability, label) == value(name, probability**3 / 2, label)


def test_what_knows_nothing_has_the_prevalence_and_one_half():
    label = np.array([1, 0, 0, 0])
    assert value("auprc", np.full(4, 0.7), label) == 0.25
    assert value("auroc", np.full(4, 0.7), label) == 0.5


@pytest.mark.parametrize("label", [[1, 1, 1], [0, 0, 0]])
def test_one_class_is_not_applicable(label):
    labels, probability = np.array(label), np.array([0.1, 0.5, 0.9])
    for name in ("auprc", "auroc", "f1", "precision", "recall"):
        assert np.isnan(value(name, probability, labels, probability > 0.2))
        assert PAIRS[name].missing
    assert value("brier", probability, labels) == pytest.approx(np.mean((probability - labels) ** 2))


def test_no_pairs_have_no_value():
    empty = np.empty(0)
    assert all(np.isnan(value(name, empty, empty, empty.astype(bool))) for name in PAIRS)


def test_without_a_threshold_nothing_is_called():
    probability, label, _ = drawn(0, 20, 5)
    assert all(np.isnan(value(name, probability, label)) for name in ("f1", "precision", "recall"))


def plain_calibration_error(probability, label):
    """The formula pair by pair, for distinct probabilities in a multiple of ten."""
    order = np.argsort(probability)
    bins = np.array_split(order, 10)
    return sum(len(b) / len(order) * abs(probability[b].mean() - label[b].mean()) for b in bins)


def test_calibration_error_is_its_formula():
    rng = np.random.default_rng(0)
    probability, label = rng.permutation(np.linspace(0.01, 0.99, 130)), rng.integers(0, 2, 130)
    expected = plain_calibration_error(probability, label)
    assert value("calibration_error", probability, label) == pytest.approx(expected, rel=1e-12)
    assert value("calibration_error", probability, label, weight=np.full((1, 130), 3.0)) == pytest.approx(expected)


def test_calibration_error_of_constants():
    label = np.array([1, 0, 0, 0])
    assert value("calibration_error", np.full(4, 0.25), label) == 0.0
    assert value("calibration_error", np.full(4, 0.75), label) == 0.5


def test_calibrated_probabilities_have_a_small_error_that_shrinks():
    rng = np.random.default_rng(0)
    probability = rng.random(200_000)
    found = value("calibration_error", probability, rng.random(200_000) < probability)
    assert found < 0.01
    assert value("calibration_error", probability**2, rng.random(200_000) < probability) > 0.1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), levels=st.sampled_from([2, 5, 1000]))
def test_the_threshold_is_the_best_of_all(seed, n, levels):
    probability, label, _ = drawn(seed, n, levels)
    chosen = best_threshold(probability, label)
    scores = {t: sk.f1_score(label, probability >= t) for t in np.unique(probability)}
    assert scores[chosen] == pytest.approx(max(scores.values()))
    assert chosen == max(t for t, score in scores.items() if score >= scores[chosen] - 1e-12)


def test_no_threshold_without_both_classes():
    assert best_threshold(np.array([0.2, 0.4]), np.array([1, 1])) is None
    assert best_threshold(np.empty(0), np.empty(0)) is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), levels=st.sampled_from([1, 3, 10_000]))
def test_curves_are_those_of_scikit_learn(seed, n, levels):
    probability, label, _ = drawn(seed, n, levels)
    recall, precision, false = curve(ScoredPairs(probability, label))
    expected = sk.precision_recall_curve(label, probability)
    np.testing.assert_allclose(precision[::-1], expected[0][:-1])
    np.testing.assert_allclose(recall[::-1], expected[1][:-1])
    other = sk.roc_curve(label, probability, drop_intermediate=False)
    np.testing.assert_allclose(np.column_stack([false, recall]), np.column_stack(other[:2])[1:])


def test_reliability_is_that_of_tenths():
    rng = np.random.default_rng(0)
    probability, label = rng.permutation(np.linspace(0.01, 0.99, 130)), rng.integers(0, 2, 130)
    said, share, weight = reliability(ScoredPairs(probability, label))
    tenths = np.array_split(np.argsort(probability), 10)
    np.testing.assert_allclose(said, [probability[part].mean() for part in tenths])
    np.testing.assert_allclose(share, [label[part].mean() for part in tenths])
    np.testing.assert_array_equal(weight, 13)
    error = value("calibration_error", probability, label)
    assert (weight * np.abs(said - share)).sum() / 130 == pytest.approx(error, rel=1e-12)


def test_reliability_of_one_probability_is_one_point():
    said, share, weight = reliability(ScoredPairs(np.full(4, 0.25), np.array([0, 1, 0, 0])))
    assert (said.tolist(), share.tolist(), weight.tolist()) == ([0.25], [0.25], [4.0])


def test_registered_under_plain_names_with_bounds():
    assert list(PAIRS) == ["auprc", "auroc", "f1", "precision", "recall", "calibration_error", "brier"]
    assert [name for name, row in PAIRS.items() if row.level == "headline"] == ["auprc", "auroc"]
    assert all(METRICS[name] is row for name, row in PAIRS.items())
    assert {row.name for row in PAIRS.values() if not row.higher_is_better} == {"calibration_error", "brier"}
