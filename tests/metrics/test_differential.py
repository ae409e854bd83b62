"""Differential expression against scipy, statsmodels and the edges of what can be tested."""

import numpy as np
import pytest
import scipy.sparse as sp
from differential_cells import screen
from scipy.stats import mannwhitneyu, ttest_ind
from statsmodels.stats.multitest import multipletests

from pertexp.metrics.cells import Cells, rescaled
from pertexp.metrics.differential import benjamini_hochberg, t_against_control, t_against_others, wilcoxon


def parts(cells, unit):
    dense = cells.expression.toarray().astype(np.float64)
    return dense[cells.group == unit], dense[cells.group == -1], dense[(cells.group >= 0) & (cells.group != unit)]


def test_wilcoxon_is_that_of_scipy():
    cells = screen()
    found = wilcoxon(cells, cells.expression)
    for unit in range(3):
        own, control, _ = parts(cells, unit)
        expected = mannwhitneyu(own[:, :-1], control[:, :-1], method="asymptotic", use_continuity=True).pvalue
        np.testing.assert_allclose(found[unit, :-1], expected, rtol=1e-5)
        assert found[unit, -1] == 1.0


def test_a_far_tail_is_that_of_scipy():
    group = np.repeat([0, -1], 400)
    values = np.concatenate([np.arange(400) + 300.0, np.arange(400)])[:, None]
    cells = Cells(sp.csr_matrix(values), group, 1, "log1p", np.ones(800))
    expected = mannwhitneyu(values[:400], values[400:], method="asymptotic").pvalue
    assert expected[0] < 1e-90
    np.testing.assert_allclose(np.log(wilcoxon(cells, cells.expression)[0]), np.log(expected), rtol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_near_the_middle_p_is_that_of_scipy(shift):
    """Ranks that balance: the continuity correction must not carry the statistic over to the other side."""
    own, control = np.array([1.0, 4.0, 5.0, 8.0 + shift]), np.array([2.0, 3.0, 6.0, 7.0, 8.5])
    values = sp.csr_matrix(np.concatenate([own, control])[:, None])
    cells = Cells(values, np.repeat([0, -1], [4, 5]), 1, "log1p", np.ones(9))
    expected = mannwhitneyu(own, control, method="asymptotic").pvalue
    assert wilcoxon(cells, cells.expression)[0, 0] == pytest.approx(expected, rel=1e-6)


def test_half_a_rank_off_the_middle_counts_as_the_middle():
    """U = 7 of 3 × 5 cells, where the middle is 7.5, which the continuity correction reaches; U = 6 stays below it."""
    control = np.arange(5.0)
    own = np.array([[-1.0, -2.0], [1.5, 0.5], [4.5, 4.5]])
    values = sp.csr_matrix(np.concatenate([own, np.stack([control, control], axis=1)]))
    cells = Cells(values, np.repeat([0, -1], [3, 5]), 1, "log1p", np.ones(8))
    tested = mannwhitneyu(own, np.stack([control, control], axis=1), method="asymptotic")
    assert tested.statistic.tolist() == [7, 6]
    found = wilcoxon(cells, cells.expression)[0]
    assert found[0] == 1.0
    np.testing.assert_allclose(found, np.minimum(tested.pvalue, 1.0), rtol=1e-6)
    assert found[1] < 1.0


@pytest.mark.parametrize("absent", [0, 2])
def test_a_unit_without_cells_is_not_tested(absent):
    cells = screen()
    kept = np.flatnonzero(cells.group != absent)
    fewer = Cells(cells.expression[kept], cells.group[kept], 3, "counts", np.ones(kept.size))
    full, found = wilcoxon(cells, cells.expression), wilcoxon(fewer, fewer.expression)
    assert np.isnan(found[absent]).all()
    others = [unit for unit in range(3) if unit != absent]
    np.testing.assert_array_equal(found[others], full[others])


def test_without_controls_nothing_is_tested():
    cells = screen(controls=0)
    assert np.isnan(wilcoxon(cells, cells.expression)).all()


def test_the_test_says_nothing_to_the_console(capfd):
    wilcoxon(screen(), screen().expression)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("missing", [0, 7])
def test_benjamini_hochberg_is_that_of_statsmodels(missing):
    p = np.random.default_rng(1).uniform(size=(5, 40)) ** 3
    p[:, 3] = p[:, 4]
    p[:, :missing] = np.nan
    for row, adjusted in zip(p, benjamini_hochberg(p), strict=True):
        expected = multipletests(row[missing:], method="fdr_bh")[1]
        np.testing.assert_allclose(adjusted[missing:], expected, rtol=1e-12)
        assert np.isnan(adjusted[:missing]).all()


def test_t_is_that_of_scipy_against_control_and_against_all_others():
    cells = screen()
    against_control, against_others = (f(cells, cells.expression) for f in (t_against_control, t_against_others))
    for unit in range(3):
        own, control, others = (part[:, :-1] for part in parts(cells, unit))
        expected = ttest_ind(own, control, equal_var=False).statistic
        np.testing.assert_allclose(against_control[unit, :-1], expected, rtol=1e-9)
        expected = ttest_ind(own, others, equal_var=False).statistic
        np.testing.assert_allclose(against_others[unit, :-1], expected, rtol=1e-9)
    assert (against_control[:, -1] == 0).all()


def test_t_of_a_shift_without_spread_is_infinite_and_of_one_cell_undefined():
    values = np.array([[3.0, 1.0], [3.0, 1.0], [1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    cells = Cells(sp.csr_matrix(values), np.array([0, 0, -1, -1, 1]), 2, "log1p", np.ones(5))
    found = t_against_control(cells, cells.expression)
    assert found[0].tolist() == [np.inf, 0.0]
    assert np.isnan(found[1]).all()


def test_rescaling_is_row_by_row():
    matrix = sp.csr_matrix(np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0], [2.0, 5.0, 0.0]]))
    scaled = rescaled(matrix, np.array([2.0, 1.0, 0.5]), log=True)
    expected = np.log1p(matrix.toarray() * np.array([[2.0], [1.0], [0.5]]))
    np.testing.assert_allclose(scaled.toarray(), expected, rtol=1e-6)
    assert scaled.dtype == np.float32
