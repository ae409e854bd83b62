"""Metrics, evaluations and models are matched by what is predicted."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from command import TINY, command

from pertexp.config.errors import MismatchError, RequestError
from pertexp.evaluation.pairs.evaluation import PairEvaluation
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.evaluation.screens.external import read_external
from pertexp.evaluation.screens.families import Core
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.metrics.core import CORE
from pertexp.metrics.metric import Metric
from pertexp.metrics.pairs import PAIRS
from pertexp.metrics.registry import METRICS
from pertexp.models.gears import GEARS
from pertexp.models.nbglm import NBGLM
from pertexp.models.prism import PRISM


def test_every_metric_says_what_it_is_computed_from():
    assert {metric.output for metric in METRICS.values()} == {"profile", "probability"}
    assert {name for name, metric in METRICS.items() if metric.output == "probability"} == set(PAIRS)
    assert {name for name, metric in CORE.items() if metric.needs_de} == {
        "pearson_delta_top20", "wmse", "de_overlap", "de_direction", "de_auprc", "mse_top20",
    }  # fmt: skip
    with pytest.raises(ValueError, match="compares 'colours', which is none of profile, cells"):
        Metric("x", lambda view: view, 1.0, 0.0, "colours")


def test_models_and_evaluations_declare_the_same():
    assert {NBGLM.predicts, GEARS.predicts, ScreenEvaluation.scores_output} == {"profile"}
    assert {PRISM.predicts, PairEvaluation.scores_output} == {"probability"}


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

    from pertexp.evaluation.screens import families

    monkeypatch.setattr(families, "CORE", {name: noted(metric) for name, metric in CORE.items()})
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


def test_predictions_say_what_they_are(tmp_path, monkeypatch):
    import anndata
    from command import of

    from pertexp import predict

    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    run = command(*TINY, "trainer.max_epochs=1").folder
    done = of(predict.main, "pertexp.predict", f"ckpt={run}", "perturbations=[GENE00001]", f"out={tmp_path / 'p.h5ad'}")
    assert done.code == 0, done.err
    assert anndata.read_h5ad(tmp_path / "p.h5ad").uns["predicts"] == "profile"
