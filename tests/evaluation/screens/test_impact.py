"""Rankings of genes beside the truth: what is scored, what the baselines are, and what is refused."""

import re
from dataclasses import replace

import anndata
import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from small_screen import OPTIONS, SIMULATOR

from pertexp.config.errors import DataError, MismatchError, RequestError
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.profiles import control_profiles, unit_profiles
from pertexp.evaluation.screens.cells import TestedCells
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.evaluation.screens.external import read_external
from pertexp.evaluation.screens.families import Core, ImpactRankings
from pertexp.evaluation.screens.frame import EvaluationFrame, concatenate
from pertexp.evaluation.screens.impact import ImpactEvaluation, ImpactFrame
from pertexp.models.baselines.impacts import AbsoluteEffect, MeanImpact
from pertexp.models.baselines.screens import Additive, TrainMean

BASELINES = {"mean_impact": MeanImpact(), "additive_effect": AbsoluteEffect(Additive())}


@pytest.fixture(scope="module")
def screen():
    strong = replace(SIMULATOR, effect_sd=2.0, cells_per_perturbation=60, n_controls=200)
    return SimulatedScreenData(name="simulated", simulator=strong, **OPTIONS, batch_size=64)


@pytest.fixture
def evaluation():
    return ImpactEvaluation(baselines=dict(BASELINES), n_resamples=20, n_splits=2)


class Known:
    """A model that knows how far each gene of a test unit moves."""

    def __init__(self, design):
        self.design = design

    def predict(self, units):
        screen, size = self.design.screen, self.design.size_factor
        reference = control_profiles(screen, size, self.design.role == "held_out_control")
        return np.abs(unit_profiles(screen, size, units) - reference[units.context])


def test_the_truth_itself_ranks_best_beside_baselines_and_replicate(screen, evaluation):
    report = evaluation(screen, Known(screen.design), "known")
    means = {(row.model, row.metric): row.mean for row in report.metrics.aggregate}
    assert means["known", "impact/spearman"] == pytest.approx(1.0)
    assert means["mean_impact", "impact/spearman"] < 0.999
    assert report.metrics.roles == {
        "known": "model", "mean_impact": "baseline", "additive_effect": "baseline", "truth": "truth",
        "replicate": "replicate",
    }  # fmt: skip
    assert (report.metrics.predicts, report.metrics.primary) == ("impact", "impact/auprc")
    assert any(
        "ranked by |predicted profile − control|: additive_effect, truth, replicate" in n for n in report.metrics.notes
    )
    assert {row.negative for row in report.metrics.calibration} == {"mean_impact"}


def test_a_unit_is_scored_as_by_hand(screen, evaluation):
    """Average precision of the genes that a Wilcoxon test finds, by the model's own scores, targets left out."""
    design = screen.design
    units = design.units("test")
    scores = np.random.default_rng(0).gamma(1.0, size=(len(units), design.screen.n_genes))
    frame = evaluation.frame(design, {"model": scores})
    measured = evaluation.scores(frame, TestedCells.of(design, 0)).rows("model", "impact/auprc")
    found = 0
    for row, value in enumerate(measured["value"]):
        keep = ~frame.own_target[row]
        moved = (frame.de_fdr[row] < 0.05)[keep]
        if 0 < moved.sum() < moved.size:
            assert value == pytest.approx(average_precision_score(moved, scores[row][keep]), rel=1e-12)
            found += 1
        else:
            assert np.isnan(value)
    assert found > 1


def test_the_mean_impact_is_the_mean_size_and_not_the_size_of_the_mean(screen):
    design = screen.design
    units = design.units("test")
    training = design.training
    expected = np.abs(training.values - training.control[training.units.context])
    assert len(training.perturbations) > 2
    own = [expected[training.units.context == c].mean(axis=0) for c in units.context]
    np.testing.assert_allclose(MeanImpact().fit(training).predict(units), own, rtol=1e-12)
    of_mean = AbsoluteEffect(TrainMean()).fit(training).predict(units)
    np.testing.assert_allclose(of_mean, np.abs(training.mean_effect[units.context]), rtol=1e-9, atol=1e-15)
    assert (of_mean <= np.stack(own) + 1e-12).all()
    assert not np.allclose(of_mean, own)


def test_the_replicate_is_ranked_by_the_size_of_its_effect(screen, evaluation):
    frame = evaluation.frame(screen.design, {"model": np.ones(1)[None].repeat(len(screen.design.units("test")), 0)
                                             * np.ones(screen.design.screen.n_genes)})  # fmt: skip
    view = frame.scored("replicate", 1)
    np.testing.assert_allclose(view.prediction, np.abs(frame.replicate[0][1] - frame.control), atol=1e-15)
    np.testing.assert_array_equal(view.truth, frame.replicate[1][1])


def test_it_is_written_read_and_pooled_as_impacts(screen, evaluation):
    frame = evaluation.frame(screen.design, {"model": Known(screen.design).predict(screen.design.units("test"))})
    stored = frame.to_anndata("model")
    assert stored.uns["predicts"] == "impact"
    again = ImpactFrame.from_anndata(stored)
    np.testing.assert_array_equal(again.predictions["model"], frame.predictions["model"])
    assert type(concatenate([again])) is ImpactFrame
    with pytest.raises(DataError, match="holds predicted impact; expected profile"):
        EvaluationFrame.from_anndata(stored)
    observed, predicted = again.effects("model", 0)
    np.testing.assert_array_equal(observed, np.abs(frame.truth[0] - frame.held_out_control[0]))
    np.testing.assert_array_equal(predicted, frame.predictions["model"][0])


@pytest.mark.parametrize(("value", "said"), [(-0.25, "-0.25"), (np.nan, "nan"), (np.inf, "inf")])
def test_what_is_no_impact_is_refused_with_where_it_stands(screen, evaluation, value, said):
    design = screen.design
    scores = np.ones((len(design.units("test")), design.screen.n_genes))
    scores[1, 3] = value
    unit = design.screen.perturbations[design.units("test").perturbation[1]]
    message = f"model predicts an impact of {said} of {unit} on {design.screen.genes[3]} (1 such values): expected"
    with pytest.raises(DataError, match=re.escape(message)):
        evaluation.frame(design, {"model": scores})


def test_other_genes_are_refused(screen, evaluation):
    with pytest.raises(DataError, match=r"prediction model of the evaluation frame has shape .* expected"):
        evaluation.frame(screen.design, {"model": np.ones((len(screen.design.units("test")), 3))})


def test_baselines_of_something_else_are_refused():
    with pytest.raises(RequestError, match=r"x predicts profile, and this evaluation scores impact.*Absolute"):
        ImpactEvaluation(baselines={"x": TrainMean()})
    with pytest.raises(RequestError, match=r"x predicts impact, and this .* scores profile: leave it out with ~eval"):
        ScreenEvaluation(baselines={"x": MeanImpact()})


def test_metrics_of_something_else_are_refused():
    with pytest.raises(RequestError, match="pearson_delta is computed from a predicted profile, and this evaluation"):
        ImpactEvaluation(families={"core": Core()})
    with pytest.raises(RequestError, match="impact/auprc is computed from a predicted impact, and this evaluation"):
        ScreenEvaluation(families={"impact": ImpactRankings()})


CHOICES = {"profile": "evaluation=core", "impact": "evaluation=impact"}


@pytest.mark.parametrize(("uns", "scale", "wanted", "error", "said"), [
    ({"predicts": "profile"}, None, "impact", MismatchError,
     "says that it predicts profile (uns['predicts']), and impacts are scored here: type evaluation=core, or"),
    ({"predicts": "impact"}, None, "profile", MismatchError, "and profiles are scored here: type evaluation=impact"),
    ({"scale": "counts"}, None, "impact", MismatchError, "its numbers are counts (uns['scale']), and impacts are"),
    ({}, "log1p", "impact", MismatchError, "pred_scale=log1p means predicted profiles, and impacts are scored here"),
    ({}, "impact", "profile", MismatchError, "pred_scale=impact means predicted impacts, and profiles are"),
    ({}, None, "impact", RequestError, "does not say what its numbers are: type pred_scale=impact for one"),
])  # fmt: skip
def test_a_file_of_something_else_is_refused(tmp_path, screen, uns, scale, wanted, error, said):
    path = tmp_path / "other.h5ad"
    anndata.AnnData(np.ones((2, 3)), uns=uns).write_h5ad(path)
    truth = screen.design.screen
    with pytest.raises(error, match=re.escape(said)):
        read_external(str(path), truth, {}, scale, None, shared=False, wanted=wanted, choices=CHOICES)
