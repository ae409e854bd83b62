"""What an evaluation of a screen takes, refuses, and asks of the model."""

from dataclasses import replace

import numpy as np
import pytest
from small_nbglm import simulated

from pertexp.config.errors import MismatchError, RequestError
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.evaluation.screens.families import Vcc2026
from pertexp.evaluation.screens.impact import ImpactEvaluation
from pertexp.models.baselines.impacts import AbsoluteEffect, MeanImpact
from pertexp.models.baselines.kernel_ridge import KernelRidge
from pertexp.models.baselines.own_target import OwnTarget
from pertexp.models.baselines.screens import NoChange, TrainMean

QUICK = ScreenEvaluation(baselines={"no_change": NoChange()}, n_resamples=20, n_splits=1)


@pytest.fixture(scope="module")
def data():
    return simulated(cells_per_perturbation=12, n_controls=40)


class Still:
    """Predicts the control mean."""

    def __init__(self, design):
        self.control = design.training.control

    def predict(self, units):
        return self.control[units.context]


class Recovers(Still):
    """Says how well it found the truth."""

    def recovery(self, design):
        return {"cells": float(design.screen.n_cells)}


def test_the_recovery_of_planted_truth_is_asked_for_where_there_is_some(data):
    design = data.design
    assert QUICK(data, Recovers(design), "own").recovery == {"cells": design.screen.n_cells}
    assert QUICK(data, Still(design), "own").recovery == {}
    real = simulated(cells_per_perturbation=12, n_controls=40)
    real._design = replace(design, screen=replace(design.screen, truth=None))
    assert QUICK(real, Recovers(design), "own").recovery == {}


def test_what_baselines_say_of_their_rows_is_noted(data, tmp_path):
    absent = {"string": f"{tmp_path}/none.npz"}
    baselines = {"mean": TrainMean(), "ridge": OwnTarget(KernelRidge(absent)), "no_table": OwnTarget(KernelRidge())}
    noting = replace(QUICK, baselines=baselines)
    said = f"ridge: without the kernel string, for there is no file {tmp_path}/none.npz"
    notes = noting(data, Still(data.design), "own").metrics.notes
    assert [note for note in notes if "kernel" in note] == [said]
    impacts = {"mean": MeanImpact(), "ridge": AbsoluteEffect(KernelRidge(absent))}
    assert ImpactEvaluation(baselines=impacts).notes[-1] == said


def test_recovery_is_written_where_there_is_some(data, tmp_path):
    report = QUICK(data, Recovers(data.design), "own")
    report.write_units(tmp_path)
    assert (tmp_path / "recovery.json").is_file()
    report.recovery.clear()
    (tmp_path / "other").mkdir()
    report.write_units(tmp_path / "other")
    assert not (tmp_path / "other" / "recovery.json").exists()
    assert (tmp_path / "other" / "predictions.h5ad").is_file()


def test_a_frame_holds_truth_controls_and_the_training_mean(data):
    design, units = data.design, data.design.units("test")
    frame = QUICK.frame(design, {"own": np.zeros((len(units), design.screen.n_genes))})
    assert list(frame.predictions) == ["own", "no_change"]
    control, effect = design.training.control, design.training.mean_effect
    np.testing.assert_array_equal(frame.control, control[units.context])
    np.testing.assert_array_equal(frame.train_mean, (control + effect)[units.context])
    np.testing.assert_array_equal(frame.predictions["no_change"], frame.control)
    assert set(frame.fold) == {design.split.fold}
    first, second = frame.replicate
    assert first.shape == second.shape == (1, *frame.truth.shape)
    three = replace(QUICK, n_splits=3).frame(design, {}).replicate[0]
    np.testing.assert_array_equal(three[0], first[0])
    assert not np.array_equal(three[1], three[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"families": {}}, "names no metric family"),
        ({"primary": "pearson"}, "evaluation.primary=pearson is no metric of this evaluation"),
        ({"n_resamples": 0}, "evaluation.n_resamples=0: expected at least 1"),
        ({"n_splits": 0}, "evaluation.n_splits=0: expected at least 1"),
        ({"baselines": {"mean": None}}, "evaluation.baselines.mean=None is no baseline"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(options, said):
    with pytest.raises(RequestError, match=said):
        ScreenEvaluation(**options)


def test_an_evaluation_at_the_ends_of_what_can_be():
    ScreenEvaluation(n_resamples=1, n_splits=1, primary="mse", baselines={"mean": TrainMean()})


def test_families_that_do_not_fit_the_scale_are_refused_before_training(data):
    logs = simulated(cells_per_perturbation=12, n_controls=40)
    logs.normalize = True
    evaluation = ScreenEvaluation(families={"vcc2026": Vcc2026()})
    for refusing, given in ((evaluation.require, logs), (evaluation.measure_negatives, logs.design)):
        with pytest.raises(MismatchError, match="cannot be computed from profiles on the scale 'mean of log1p"):
            refusing(given)
    evaluation.require(data)
