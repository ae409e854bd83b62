"""The families on a designed screen: cells, pools, halves and what the replicate and the negatives are scored on."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from pertexp.config.errors import MismatchError
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.design import build_design
from pertexp.data.screens.embeddings import Planted
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation
from pertexp.evaluation.screens.cells import Half, TestedCells
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.evaluation.screens.families import CellEval, Core, Gears, Vcc2026
from pertexp.evaluation.screens.measuring import measure, pooled
from pertexp.metrics import vcc2026
from pertexp.metrics.registry import METRICS
from pertexp.models.baselines.screens import NoChange, TrainMean

ALL = {"core": Core(), "cell_eval": CellEval(), "vcc2026": Vcc2026(), "gears": Gears()}


def data_of(contexts=2, normalize=False, seed=0):
    return SimulatedScreenData(
        name="small",
        split=UnseenPerturbation(folds=2),
        gene_embedding=Planted(of="genes"),
        perturbation_embedding=Planted(of="perturbations"),
        normalize=normalize,
        simulator=SimulatedScreen(
            n_genes=40, n_perturbations=12, n_combinations=0, cells_per_perturbation=40, n_controls=80,
            n_contexts=contexts, seed=seed,
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def design():
    return data_of().design


@pytest.fixture(scope="module")
def evaluation():
    return ScreenEvaluation(families=ALL, baselines={"no_change": NoChange(), "train_mean": TrainMean()}, n_splits=2)


@pytest.fixture(scope="module")
def frame(design, evaluation):
    rng = np.random.default_rng(0)
    shape = (len(design.units("test")), design.screen.n_genes)
    control = design.training.control[design.units("test").context]
    return evaluation.frame(design, {"model": np.maximum(control + rng.normal(size=shape) * 0.1, 0.0)})


def test_a_pool_is_one_context_with_its_own_controls(design):
    cells = TestedCells.of(design, 0)
    assert [len(rows) for rows in cells.pools] == [6, 6]
    for context, rows in enumerate(cells.pools):
        real = cells.real(rows)
        assert real.sizes[:-1].tolist() == [20] * 6
        controls = (design.screen.perturbation == 0) & (design.screen.context == context)
        assert real.sizes[-1] == controls.sum()
        assert (real.expression[real.of(-1)] != design.screen.expression[controls]).nnz == 0


def test_halves_are_those_of_the_frame(design, frame):
    """The replicate of profiles and that of cells are one split of the same cells."""
    cells = TestedCells.of(design, 0)
    for rows in cells.pools:
        for side in (0, 1):
            half = cells.real(rows, Half(1, side))
            sums = half.sums(half.expression)[:-1]
            exposure = half.indicator.dot(half.size_factor)[:-1]
            np.testing.assert_allclose(np.log1p(sums / exposure[:, None]), frame.replicate[side][1][rows], rtol=1e-6)


def test_predicted_cells_have_the_predicted_mean_and_as_many_cells_as_truth(design, frame):
    cells = TestedCells.of(design, 0)
    rows = cells.pools[0]
    made = cells.predicted("model", frame.predictions["model"], rows)
    assert made.sizes.tolist() == cells.real(rows).sizes.tolist()
    sums, exposure = made.sums(made.expression)[:-1], made.indicator.dot(made.size_factor)[:-1]
    expected = np.expm1(frame.predictions["model"][rows])
    noise = np.sqrt(expected * exposure[:, None] * 6 + 1)
    assert (np.abs(sums - expected * exposure[:, None]) < 6 * noise).all()
    again = cells.predicted("model", frame.predictions["model"], rows)
    assert (again.expression != made.expression).nnz == 0


def test_no_change_calls_no_gene(design, frame):
    scorer = Vcc2026().scorer(frame, TestedCells.of(design, 0))
    assert np.nanmax(scorer.prediction("no_change")["vcc2026/direction_fidelity_yield"]) < 0.1


def test_every_metric_of_every_family_is_measured_on_every_unit(design, frame):
    measured = measure(frame, TestedCells.of(design, 0), ALL)
    of_profiles = {name for name, metric in METRICS.items() if metric.output == "profile"}
    assert set(measured.per_unit["metric"]) == of_profiles
    assert set(measured.per_unit["model"]) == {"model", "no_change", "train_mean", "truth", "replicate"}
    assert (measured.per_unit.groupby(["model", "metric"]).size() == 12).all()
    assert set(measured.reliability["metric"]) == of_profiles
    assert measured.reliability["bds"].dropna().between(0, 1).all()


SUMS_UP = ("cell_eval/pearson_edistance", "cell_eval/de_spearman_sig")
ZERO_WITHOUT_GENES = ("cell_eval/overlap", "cell_eval/precision")  # where no gene is significant, as in cell-eval


@pytest.mark.parametrize("family", [CellEval(), Vcc2026(), Gears()], ids=lambda family: family.name)
def test_a_perfect_prediction_of_cells_is_perfect(design, frame, family):
    """The real cells in the place of the predicted ones reach the best value wherever truth allows one."""
    cells = TestedCells.of(design, 0)
    rows = cells.pools[0]
    side = type(family).summarise(cells.real(rows))
    view = family.view(side, side, frame, rows, family.pool_facts(cells, frame, rows))
    for name, metric in family.metrics.items():
        values = metric.function(view)
        used = values[~np.isnan(values)]
        best = np.isclose(used, metric.best)
        if name in SUMS_UP:
            assert used.mean() == pytest.approx(1.0)
        elif name == "vcc2026/expr_mse_unbiased_capped_norm":
            assert (used < 0.05).all()  # unbiased: below zero by what sampling would have added
        else:
            assert (best | ((used == 0.0) & name.startswith(ZERO_WITHOUT_GENES))).all(), name
            assert best.any() or not used.size, name


def test_a_leak_of_held_out_cells_moves_no_prediction(evaluation):
    """A marker in test cells changes the truth and nothing that a baseline predicts."""
    plain = data_of()
    screen = plain.read()
    marked = plain.read()
    design = build_design(screen, plain)
    test = design.cells("test")
    dense = marked.expression.toarray()
    dense[test, 0] += 500
    marked = replace(marked, expression=sp.csr_matrix(dense))
    other = build_design(marked, data_of())
    a, b = (evaluation.frame(one, {"model": np.zeros((len(one.units("test")), 40))}) for one in (design, other))
    for name in ("no_change", "train_mean"):
        np.testing.assert_array_equal(a.predictions[name], b.predictions[name])
    assert not np.allclose(a.truth, b.truth)


def test_logs_have_cells_too_but_no_counts():
    data = data_of(normalize=True)
    evaluation = ScreenEvaluation(families={"cell_eval": CellEval(), "gears": Gears()}, n_splits=1)
    measured = evaluation.measure_negatives(data.design)
    of_both = {name for name, metric in METRICS.items() if metric.family in ("cell_eval", "gears")}
    assert set(measured.per_unit["metric"]) == of_both
    with pytest.raises(MismatchError, match="from profiles on the scale 'mean of log1p values', which the data have"):
        ScreenEvaluation(families={"vcc2026": Vcc2026()}).require(data)


def test_pooling_keeps_what_all_parts_hold(design, frame):
    cells = TestedCells.of(design, 0)
    first = measure(frame, cells, {"core": Core(), "gears": Gears()})
    second = measure(replace(frame, fold=frame.fold + 1), cells, {"core": Core()})
    together = pooled([first, second])
    assert set(together.per_unit["metric"]) == set(Core().metrics)
    assert len(together.per_unit) == 2 * len(second.per_unit)


def test_effect_sizes_are_those_of_all_perturbations_of_the_context(design, frame):
    """Tested or not: the same number in every fold."""
    cells = TestedCells.of(design, 0)
    rows = cells.pools[1]
    everyone, names = cells.all_perturbed(rows)
    assert set(names) == set(design.screen.perturbations) - {"control"}
    assert everyone.sizes.sum() == (design.screen.context == 1).sum()
    own = np.zeros((len(names), 40), dtype=bool)
    for unit, name in enumerate(names):
        own[unit] = design.screen.genes == name
    side = vcc2026.summarise(everyone)
    expected = vcc2026.mean_effect_size(side, own)
    assert Vcc2026().pool_facts(cells, frame, rows) == pytest.approx(expected, rel=1e-12)
