"""A model that predicts which genes a perturbation moves, through every command."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from command import TINY, Ran, command, of
from impact_model import ImpactModel
from places import ROOT
from resuming import assert_same_end, interrupted

from pertexp.evaluation.screens.impact import ImpactFrame
from pertexp.report.__main__ import report

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("module_outputs")]

FOUND = f"hydra.searchpath=[file://{ROOT / 'tests' / 'conf'}]"
WORDS = (*TINY, FOUND, "model=impact_stand_in", "data.simulator.effect_sd=1.5", "trainer.max_epochs=3")


def predict(*words: str) -> Ran:
    from pertexp import predict as door

    return of(door.main, "pertexp.predict", FOUND, *words)


def evaluate(*words: str) -> Ran:
    from pertexp import evaluate as door

    return of(door.main, "pertexp.evaluate", FOUND, *words)


@pytest.fixture(scope="module")
def run(module_outputs: Path) -> Ran:
    done = command(*WORDS)
    assert (done.code, done.err) == (0, "")
    return done


def document(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def means(folder: Path, model: str) -> dict[str, float]:
    rows = [row for row in document(folder)["aggregate"] if row["model"] == model]
    return {row["metric"]: row["mean"] for row in rows if row["mean"] is not None}


def test_it_is_scored_beside_baselines_and_replicate(run):
    found = document(run.folder)
    assert (found["task"], found["predicts"], found["primary"]) == ("screens", "impact", "impact/auprc")
    roles = found["roles"]
    assert (roles["impact_stand_in"], roles["replicate"]) == ("model", "replicate")
    assert {name for name, role in roles.items() if role == "baseline"} == {
        "mean_impact", "no_change_effect", "train_mean_effect", "additive_effect", "bilinear_ridge_effect",
        "bilinear_ridge_log_effect", "kernel_ridge_effect", "knn_effect",
    }  # fmt: skip
    assert {one["reference"] for one in found["verdict"]} <= set(roles) - {"replicate"}
    assert any("ranked by |predicted profile − control|: no_change_effect" in note for note in found["notes"])
    frame = ImpactFrame.from_anndata(anndata.read_h5ad(run.folder / "predictions.h5ad"))
    assert all((table >= 0).all() for table in frame.predictions.values())


def test_it_is_shown_on_console_and_page(run):
    shown = " ".join(run.out.split())
    assert "impact/ impact/" in shown
    assert "auprc ↑ spearman" in shown
    assert "ranked by |predicted profile − control|" in shown
    assert "impact_stand_in compared with" in shown or "impact_stand_in is not applicable" in shown
    page = (run.folder / "report.html").read_text()
    for text in ("impact/auprc", "mean_impact", "observed size of the change", "impact predicted by impact_stand_in",
                 "ranked by |predicted profile − control|"):  # fmt: skip
        assert text in page.replace("<wbr>", ""), text
    assert "Dashed: prediction equals observation" not in page


def test_it_is_resumed_to_the_same_numbers(run, module_outputs):
    folder = interrupted(module_outputs, "validation_start", 3, *WORDS)
    done = command(*WORDS, f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert done.code == 0, done.err
    assert_same_end(done.folder, run.folder)


def test_its_predictions_are_impacts_and_are_scored_from_checkpoint_and_file_alike(run, tmp_path):
    theirs = anndata.read_h5ad(run.folder / "predictions.h5ad")
    names = theirs.obs["perturbation"].astype(str).tolist()
    out = tmp_path / "impacts.h5ad"
    done = predict(f"ckpt={run.folder}", f"perturbations=[{','.join(names)}]", f"out={out}")
    assert done.code == 0, done.err
    found = anndata.read_h5ad(out)
    assert (found.uns["predicts"], found.uns["scale"]) == ("impact", "impact")
    assert found.obs["perturbation"].tolist() == names
    np.testing.assert_allclose(found.X, theirs.X, rtol=1e-5)
    of_checkpoint = evaluate(f"ckpt={run.folder}")
    assert of_checkpoint.code == 0, of_checkpoint.err
    of_file = evaluate(f"pred={out}", "evaluation=impact", "evaluation.n_resamples=50", *_data_of(run))
    assert of_file.code == 0, of_file.err
    assert document(of_checkpoint.folder)["aggregate"] == document(run.folder)["aggregate"]
    own, external = means(run.folder, "impact_stand_in"), means(of_file.folder, "impacts")
    assert external == pytest.approx(own, rel=1e-6)
    assert len(own) > 4


def _data_of(run: Ran) -> list[str]:
    """The data of the run, on its own split."""
    simulator = [word for word in WORDS if word.startswith("data.simulator")]
    return ["data=simulated_screen", *simulator, "data.split.fold=0", "data/split=unseen_perturbation"]


def test_what_needs_profiles_is_refused(run):
    for word in ("cells=5", "data.path=x.h5ad", "genes=shared"):
        refused = predict(f"ckpt={run.folder}", word)
        assert refused.code == 2
        assert f"{word.partition('=')[0]} is not an option for a model of impacts in a screen" in refused.err
        assert "contexts, perturbations" in refused.err
    refused = evaluate(f"ckpt={run.folder}", "evaluation=core")
    assert refused.code == 2
    assert "evaluation=core scores models that predict profile, but model=impact_stand_in predicts impact: type " in (
        refused.err
    )
    assert "type evaluation=impact." in refused.err


def test_profiles_and_impacts_are_not_scored_as_one_another_before_training():
    impacts = command(*WORDS, "evaluation=core")
    assert (impacts.code, "predicts impact: type evaluation=impact." in impacts.err) == (2, True)
    profiles = command(*TINY, "evaluation=impact")
    assert (profiles.code, "model=nbglm predicts profile: type evaluation=core." in profiles.err) == (2, True)
    assert "Epoch" not in impacts.out + profiles.out


def test_negative_scores_of_a_model_are_refused(monkeypatch, run):
    plain = ImpactModel.predict
    monkeypatch.setattr(ImpactModel, "predict", lambda self, units: plain(self, units) - 5.0)
    scored = evaluate(f"ckpt={run.folder}")
    asked = predict(f"ckpt={run.folder}")
    for refused in (scored, asked):
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "impact_stand_in predicts an impact of -" in refused.err
        assert "expected finite scores of 0 or more" in refused.err


def test_a_file_with_a_negative_score_or_lacking_genes_is_refused(run, tmp_path):
    out = tmp_path / "impacts.h5ad"
    assert predict(f"ckpt={run.folder}", f"out={out}").code == 0
    good = anndata.read_h5ad(out)
    negative = good.copy()
    negative.X[2, 4] = -1.5
    negative.write_h5ad(tmp_path / "negative.h5ad")
    refused = evaluate(f"pred={tmp_path / 'negative.h5ad'}", "evaluation=impact", *_data_of(run))
    name, gene = negative.obs["perturbation"].iloc[2], negative.var_names[4]
    assert refused.code == 2, refused.out
    assert f"negative predicts an impact of -1.5 of {name} on {gene} (1 such values)" in refused.err
    good[:, 3:].write_h5ad(tmp_path / "few.h5ad")
    refused = evaluate(f"pred={tmp_path / 'few.h5ad'}", "evaluation=impact", *_data_of(run))
    assert (refused.code, "lack 3 of the 30 genes" in refused.err, "genes=shared" in refused.err) == (2, True, True)
    done = evaluate(f"pred={tmp_path / 'few.h5ad'}", "evaluation=impact", "genes=shared", *_data_of(run))
    assert done.code == 0, done.err


def test_a_sweep_ends_with_one_table_and_a_page(module_outputs):
    done = command("-m", *WORDS, "optimizer.lr=0.001,0.05", "data.split.fold=0,1")
    assert (done.code, done.err) == (0, "")
    (folder,) = (module_outputs / "sweeps").iterdir()
    table = pd.read_csv(folder / "sweep.csv")
    assert set(table.loc[table["role"] == "model", "optimizer.lr"]) == {0.001, 0.05}
    assert "impact/auprc" in done.out.replace("\n", "").replace(" ", "") or "impact/" in done.out
    (folder / "report.html").unlink()
    assert "mean_impact" in report([str(folder)]).read_text()


def test_its_metrics_are_calibrated():
    from pertexp import calibrate as door

    simulator = [word for word in WORDS if word.startswith("data.simulator")]
    done = of(door.main, "pertexp.calibrate", "evaluation=impact", "data=simulated_screen", *simulator,
              "evaluation.n_resamples=50")  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads((done.folder / "calibration.json").read_text())
    by_metric = {row["metric"]: row for row in found["calibration"]}
    assert by_metric["impact/auprc"]["negative"] == "mean_impact"
    assert by_metric["impact/auprc"]["one"] > by_metric["impact/auprc"]["zero"]
