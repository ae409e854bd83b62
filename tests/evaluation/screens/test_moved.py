"""Cells that predictions make of controls: the mean is the predicted one, zeros are not lifted, null stays null."""

import numpy as np
import pytest
import scipy.sparse as sp

from pertexp.evaluation.screens.moved import moved_counts, moved_logs
from pertexp.metrics.cells import Cells, rescaled
from pertexp.metrics.differential import benjamini_hochberg, wilcoxon


def controls(n=4000, genes=30, seed=0):
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(0, 0.4, n))
    mean = np.exp(rng.uniform(-3, 2, genes))
    mean[-1] = 0.0
    counts = rng.poisson(rng.gamma(2.0, mean * size[:, None] / 2.0)).astype(np.float32)
    return sp.csr_matrix(counts), size, mean


@pytest.mark.parametrize("fold", [0.0, 0.3, 1.0, 1.7, 6.0])
def test_the_mean_of_moved_counts_is_the_prediction(fold):
    counts, size, _ = controls()
    before = np.asarray(counts.sum(axis=0)).ravel() / size.sum()
    after = before * fold
    after[-1] = 0.4  # unseen in control, predicted to rise
    moved = moved_counts(counts, size, before, after, np.random.default_rng(1))
    found = np.asarray(moved.sum(axis=0)).ravel()
    expected = after * size.sum()
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected + 1)).all()
    assert np.array_equal(moved.data, np.rint(moved.data))
    assert moved.data.min(initial=1) > 0


def test_no_effect_leaves_counts_as_they_are():
    counts, size, _ = controls(n=50)
    before = np.full(30, 0.7)
    moved = moved_counts(counts, size, before, before, np.random.default_rng(1))
    assert (moved != counts).nnz == 0


def test_added_counts_go_to_deep_cells():
    counts, size, _ = controls(n=2000)
    before, after = np.zeros(30), np.full(30, 2.0)
    moved = moved_counts(sp.csr_matrix(counts.shape, dtype=np.float32), size, before, after, np.random.default_rng(0))
    depth = np.asarray(moved.sum(axis=1)).ravel()
    np.testing.assert_allclose(depth[size > 1.5].sum() / depth.sum(), size[size > 1.5].sum() / size.sum(), rtol=0.02)
    spread = (depth - 60 * size) / np.sqrt(60 * size)
    assert 0.9 < spread.std() < 1.1  # Poisson


def test_the_mean_of_moved_logs_is_the_prediction_and_zeros_stay():
    counts, _, _ = controls(n=300)
    logs = counts.log1p().tocsr().astype(np.float64)
    before = np.asarray(logs.mean(axis=0)).ravel()
    after = before * np.linspace(0.2, 3.0, 30)
    moved = moved_logs(logs, before, after)
    np.testing.assert_allclose(moved.astype(np.float64).toarray().mean(axis=0), after, rtol=1e-6)
    assert np.array_equal(moved.toarray() == 0, logs.toarray() == 0)


def test_a_gene_unseen_in_control_rises_everywhere_and_no_log_is_negative():
    logs = sp.csr_matrix(np.array([[1.0, 0.0], [2.0, 0.0]]))
    moved = moved_logs(logs, np.array([1.5, 0.0]), np.array([-0.2, 0.5])).toarray()
    assert moved.tolist() == [[0.0, 0.5], [0.0, 0.5]]


def calls(moved, control):
    """Share of genes called significant when moved cells are tested against the control cells."""
    group = np.repeat([0, -1], [moved.shape[0], control.shape[0]])
    both = sp.vstack([moved, control], format="csr")
    cells = Cells(both, group, 1, "log1p", np.ones(group.size))
    return float((benjamini_hochberg(wilcoxon(cells, both)) < 0.05).mean())


def test_a_tiny_effect_is_not_significant_as_a_plain_shift_would_make_it():
    counts, size, _ = controls(n=600, genes=200)
    logs = rescaled(counts, 1 / size, log=True)
    before = np.asarray(logs.mean(axis=0)).ravel()
    after = np.where(before > 0, before + 1e-3, 0.0)
    shifted = sp.csr_matrix(logs[:200].toarray() + 1e-3)
    assert calls(shifted, logs) > 0.3
    assert calls(moved_logs(logs[:200], before, after), logs) == 0.0


def test_a_real_effect_is_significant():
    counts, size, _ = controls(n=900)
    before = np.asarray(counts.sum(axis=0)).ravel() / size.sum()
    moved = moved_counts(counts[:300], size[:300], before, before * 0.3, np.random.default_rng(0))
    assert calls(moved.log1p(), counts.log1p()) > 0.7
