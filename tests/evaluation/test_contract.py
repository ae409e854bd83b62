"""Metrics, evaluations and models are matched by what is predicted."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from command import TINY, command
from places import ROOT
from unit_model import UnitModel

from pertexp.config.errors import MismatchError, RequestError
from pertexp.evaluation.pairs.evaluation import PairEvaluation
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.evaluation.screens.external import read_external
from pertexp.evaluation.screens.families import Core
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.metrics.core import CORE
from pertexp.metrics.metric import Metric
from pertexp.metrics.output import ANY_SCALE, OF_CELLS, OF_COUNTS, Probability, Profile
from pertexp.metrics.pairs import PAIRS
from pertexp.metrics.registry import METRICS
from pertexp.models.gears import GEARS
from pertexp.models.nbglm import NBGLM
from pertexp.models.prism import PRISM


def test_every_metric_says_what_it_is_computed_from():
    assert {metric.output for metric in METRICS.values()} == {"profile", "impact", "probability"}
    scales = {family: {metric.scales for metric in METRICS.values() if metric.family == family}
              for family in ("core", "cell_eval", "gears", "vcc2026")}  # fmt: skip
    assert scales == {"core": {ANY_SCALE}, "cell_eval": {OF_CELLS}, "gears": {OF_CELLS}, "vcc2026": {OF_COUNTS}}
    assert {name for name, metric in METRICS.items() if metric.output == "probability"} == set(PAIRS)
    tested = {"pearson_delta_top20", "de_overlap", "de_direction", "de_auprc"}
    variants = {f"{name}_{suffix}" for name in tested for suffix in ("shared_control", "with_targets")}
    assert {name for name, metric in CORE.items() if metric.needs_de} == tested | variants | {"wmse", "mse_top20"}
    with pytest.raises(ValueError, match="compares 'colours', which is none of profile, cells"):
        Metric("x", lambda view: view, 1.0, 0.0, "colours")


def test_models_and_evaluations_declare_the_same():
    assert (NBGLM.predicts, GEARS.predicts) == (Profile("log1p_of_means"), Profile("mean_of_log1p"))
    assert {NBGLM.predicts.name, GEARS.predicts.name} == {ScreenEvaluation.scores_output}
    assert (PRISM.predicts, PRISM.predicts.name) == (Probability(), PairEvaluation.scores_output)


def test_a_profile_has_a_scale():
    with pytest.raises(ValueError, match="cannot be on the scale 'log1p': write one of log1p_of_means, mean_of_log1p"):
        Profile("log1p")
    assert Profile("as_data").on("mean_of_log2fc") == "mean_of_log2fc"
    assert Profile("mean_of_log1p").on("mean_of_log2fc") == "mean_of_log1p"


SHORT = ("model=unit_stand_in", "trainer.max_epochs=1", f"hydra.searchpath=[file://{ROOT / 'tests' / 'conf'}]")


@pytest.mark.medium
@pytest.mark.usefixtures("outputs")
def test_a_profile_on_another_scale_than_the_truth_is_refused_and_what_is_said_helps(monkeypatch):
    monkeypatch.setattr(UnitModel, "predicts", Profile("mean_of_log1p"))
    refused = command(*TINY, *SHORT)
    assert refused.code == 2
    assert (
        "model=unit_stand_in predicts profiles on the scale 'mean of log1p values', but data=simulated" in refused.err
    )
    assert "are scored on the scale 'log1p of counts at the median depth" in refused.err
    assert "type data.normalize=where_counts" in refused.err
    assert "Epoch" not in refused.out
    done = command(*TINY, *SHORT, "data.normalize=where_counts")
    assert (done.code, done.err) == (0, "")
    monkeypatch.setattr(UnitModel, "predicts", Profile("log1p_of_means"))
    refused = command(*TINY, *SHORT, "data.normalize=where_counts")
    assert (refused.code, "with data.normalize=false" in refused.err) == (2, True)


@pytest.mark.usefixtures("outputs")
def test_a_model_may_say_its_scale_once_it_is_built(monkeypatch):
    """Where its options decide: what it says then is what counts."""
    monkeypatch.setattr(UnitModel, "__init__", _built_for_logs(UnitModel.__init__))
    refused = command(*TINY, *SHORT)
    assert (refused.code, "predicts profiles on the scale 'mean of log1p values'" in refused.err) == (2, True)


def _built_for_logs(init):
    def build(self, *parts):
        init(self, *parts)
        self.predicts = Profile("mean_of_log1p")

    return build


@pytest.mark.usefixtures("outputs")
def test_a_name_is_no_declaration(monkeypatch):
    monkeypatch.setattr(UnitModel, "predicts", "profile")
    refused = command(*TINY, *SHORT)
    assert refused.code == 2
    assert "declares 'profile', which is no declaration of pertexp.metrics.output" in refused.err


def test_a_metric_of_another_prediction_is_refused():
    @dataclass(frozen=True)
    class Mixed(Core):
        metrics = {**CORE, "auroc": PAIRS["auroc"]}  # noqa: RUF012

    with pytest.raises(RequestError, match="auroc is computed from a predicted probability, and this evaluation"):
        ScreenEvaluation(families={"mixed": Mixed()})


def frame_without_cells() -> EvaluationFrame:
    rng, untested = np.random.default_rng(0), np.full((4, 6), np.nan)
    control = np.tile(rng.normal(3.0, 1.0, 6), (4, 1))
    return EvaluationFrame(
        perturbation=("a", "b", "c", "d"),
        context=("x",) * 4,
        fold=np.zeros(4, dtype=int),
        genes=tuple(f"g{number}" for number in range(6)),
        scale="log1p",
        truth=control + rng.normal(size=(4, 6)),
        control=control,
        train_mean=control + 0.1,
        de_score=untested,
        de_fdr=untested,
        rest_score=untested,
        predictions={"model": control + rng.normal(size=(4, 6))},
        seen=np.zeros(4, dtype=int),
    )


def test_without_tests_no_metric_of_differential_expression_is_computed(monkeypatch):
    """One that needs a test is not asked; the others are."""
    asked = []

    def noted(metric: Metric) -> Metric:
        return replace(metric, function=lambda view: asked.append(metric.name) or metric.function(view))

    monkeypatch.setattr(Core, "metrics", {name: noted(metric) for name, metric in CORE.items()})
    values = Core().scorer(frame_without_cells(), None).prediction("model")
    assert set(asked) == {name for name, metric in CORE.items() if not metric.needs_de}
    assert all(np.isnan(values[name]).all() for name, metric in CORE.items() if metric.needs_de)


def test_an_impact_is_not_scored_as_a_profile(tmp_path, monkeypatch):
    """As a file says of itself what it predicts, also where a scale is typed."""
    import anndata

    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    path = tmp_path / "ranks.h5ad"
    found = anndata.AnnData(np.ones((2, 3)))
    found.uns["predicts"] = "impact"
    found.write_h5ad(path)
    for scale in (None, "profile"):
        with pytest.raises(MismatchError, match=r"says that it predicts impact .*and profiles are scored here"):
            read_external(str(path), None, {}, scale, None, shared=False)


@pytest.mark.medium
def test_predictions_say_what_they_are(tmp_path, monkeypatch):
    import anndata
    from command import of

    from pertexp import predict

    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    run = command(*TINY, "trainer.max_epochs=1").folder
    done = of(predict.main, "pertexp.predict", f"ckpt={run}", "perturbations=[GENE00001]", f"out={tmp_path / 'p.h5ad'}")
    assert done.code == 0, done.err
    assert anndata.read_h5ad(tmp_path / "p.h5ad").uns["predicts"] == "profile"
