"""The metrics of the GEARS paper, gene by gene, from cells drawn here."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from differential_cells import screen
from scipy.stats import pearsonr, ttest_ind

from pertexp.metrics.cells import Cells
from pertexp.metrics.gears import GEARS, TOP, LogSummary, LogView, summarise

UNITS, GENES = 3, 40
DROPOUT = 5  # expressed in control, and not in the cells of unit 0


def cells_of(seed: int) -> Cells:
    """Counts with size factors; of genes that nobody expresses, and one that unit 0 has lost."""
    drawn = screen(genes=GENES, seed=seed)
    counts = drawn.expression.toarray()
    counts[drawn.group == -1, DROPOUT] += 3
    counts[drawn.group == 0, DROPOUT] = 0
    size = np.exp(np.random.default_rng(seed + 10).normal(0, 0.5, len(counts)))
    return replace(drawn, expression=sp.csr_matrix(counts), size_factor=size)


REAL, PREDICTED = cells_of(0), cells_of(1)
VIEW = LogView(summarise(REAL), summarise(PREDICTED))


def logs_of(cells: Cells, unit: int) -> np.ndarray:
    return np.log1p(cells.expression.toarray() / cells.size_factor[:, None])[cells.group == unit]


def top_of(unit: int) -> np.ndarray:
    """Genes of largest |t| among those that the unit expresses, or that neither side does."""
    own, control = logs_of(REAL, unit), logs_of(REAL, -1)
    t = np.nan_to_num(np.abs(ttest_ind(own, control, equal_var=False).statistic))
    kept = [gene for gene in range(GENES) if own[:, gene].any() or not control[:, gene].any()]
    return np.array(sorted(kept, key=lambda gene: -t[gene])[:TOP])


def by_hand(name: str, unit: int) -> float:
    own, top = logs_of(REAL, unit), top_of(unit)
    true, predicted, control = own.mean(axis=0), logs_of(PREDICTED, unit).mean(axis=0), logs_of(REAL, -1).mean(axis=0)
    error, opposite = (predicted - true) ** 2, (predicted - control) * (true - control) < 0
    return {
        "mse": lambda: error.mean(),
        "mse_top20_non_dropout": lambda: error[top].mean(),
        "normalised_mse_top20_non_dropout": lambda: error[top].mean() / ((control - true) ** 2)[top].mean(),
        "pearson_delta": lambda: pearsonr(predicted - control, true - control).statistic,
        "pearson_delta_top20_non_dropout": lambda: (
            pearsonr((predicted - control)[top], (true - control)[top]).statistic
        ),
        "opposite_direction_top20_non_dropout": lambda: opposite[top].mean(),
        "within_one_sigma_top20_non_dropout": lambda: (np.sqrt(error) < own.std(axis=0, ddof=1))[top].mean(),
    }[name]()


@pytest.mark.parametrize("name", GEARS)
def test_every_metric_by_hand(name):
    found = GEARS[name].function(VIEW)
    expected = [by_hand(name.removeprefix("gears/"), unit) for unit in range(UNITS)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert len(set(found)) > 1


def test_a_gene_that_the_cells_have_lost_is_not_among_the_top_ones():
    assert DROPOUT not in VIEW.truth.top[0]
    assert DROPOUT in VIEW.truth.top[1]
    assert VIEW.truth.top.shape == (UNITS, TOP)
    assert summarise(screen(genes=7)).top.shape == (UNITS, 7)


def test_logs_are_taken_as_they_are():
    logs = REAL.expression.copy()
    logs.data = np.log1p(logs.data)
    side = summarise(Cells(logs, REAL.group, UNITS, "log1p", np.ones(len(REAL.group))))
    np.testing.assert_allclose(side.mean[1], logs.toarray()[REAL.group == 1].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(side.sd[1], logs.toarray()[REAL.group == 1].std(axis=0, ddof=1), rtol=1e-5, atol=1e-7)


def test_one_cell_has_no_spread():
    one = Cells(sp.csr_matrix(np.ones((3, 4))), np.array([0, -1, -1]), 1, "log1p", np.ones(3))
    assert summarise(one).sd.tolist() == [[0.0] * 4]


def side(mean: np.ndarray) -> LogSummary:
    top = np.tile(np.arange(3), (len(mean), 1))
    return LogSummary(mean, np.zeros(4), np.ones_like(mean), top)


def test_where_nothing_moves_there_is_nothing_to_divide_by_and_the_worst_correlation():
    still, moved = np.zeros((1, 4)), np.array([[1.0, 2.0, 3.0, 4.0]])
    unchanged = GEARS["gears/normalised_mse_top20_non_dropout"].function
    assert np.isnan(unchanged(LogView(side(still), side(moved)))).all()
    assert unchanged(LogView(side(moved), side(still))).tolist() == [1.0]
    for name in ("gears/pearson_delta", "gears/pearson_delta_top20_non_dropout"):
        assert GEARS[name].function(LogView(side(moved), side(still))).tolist() == [-1.0]
        assert GEARS[name].function(LogView(side(still), side(moved))).tolist() == [-1.0]
        assert GEARS[name].function(LogView(side(moved), side(2 * moved))) == pytest.approx(1.0)


def test_a_gene_that_is_not_predicted_to_move_moves_in_no_direction():
    still = replace(VIEW.prediction, mean=np.tile(VIEW.truth.control, (UNITS, 1)))
    assert (GEARS["gears/opposite_direction_top20_non_dropout"].function(LogView(VIEW.truth, still)) == 0).all()
