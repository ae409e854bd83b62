"""From a checkpoint alone to an AnnData that other tools read as it is."""

import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from command import TINY, command, of
from screen_files import screen_file

from pertexp.evaluation.screens.frame import EvaluationFrame

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("module_outputs")]


def predict(*words):
    from pertexp import predict as entry

    return of(entry.main, "pertexp.predict", *words)


@pytest.fixture(scope="module")
def run(module_outputs):
    done = command(*TINY, "data.simulator.n_combinations=3")
    assert done.code == 0, done.err
    return done.folder


def written(done):
    assert done.code == 0, done.err
    return anndata.read_h5ad(done.folder)


def names_of(run: Path) -> list[str]:
    return anndata.read_h5ad(run / "predictions.h5ad").obs["perturbation"].astype(str).tolist()


def test_profiles_are_those_of_the_run(run):
    frame = EvaluationFrame.from_anndata(anndata.read_h5ad(run / "predictions.h5ad"))
    found = written(predict(f"ckpt={run}", f"perturbations=[{','.join(frame.perturbation)}]"))
    assert found.obs["perturbation"].tolist() == ["control", *frame.perturbation]
    assert tuple(found.var_names) == frame.genes
    np.testing.assert_allclose(found.X[1:], frame.predictions["nbglm"], rtol=1e-5, atol=1e-6)
    assert found.uns["scale"] == frame.scale
    assert (found.uns["model"], found.uns["run"]) == ("nbglm", str(run))


def test_all_that_was_trained_with_is_predicted_unless_named(run):
    known = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["schema"]["perturbations"]
    assert written(predict(f"ckpt={run}")).obs["perturbation"].tolist() == known


def test_a_combination_that_was_never_seen_is_predicted_from_its_members(run):
    singles = [name for name in names_of(run) if "+" not in name][:2]
    pair = "+".join(sorted(singles))
    found = written(predict(f"ckpt={run}", f"perturbations=[{','.join(singles)},{pair}]"))
    control, a, b, both = np.expm1(found.X.astype(np.float64))
    assert found.obs["perturbation"].tolist()[-1] == pair
    assert not np.allclose(both, a)
    log_fold = [np.log((x + 0.01) / (control + 0.01)) for x in (a, b, both)]
    assert np.corrcoef(log_fold[0] + log_fold[1], log_fold[2])[0, 1] > 0.8  # effects on logs nearly add up


def test_names_are_read_as_sets(run):
    a, b = [name for name in names_of(run) if "+" not in name][:2]
    found = written(predict(f"ckpt={run}", f"perturbations=[{b}+{a},{a}+ctrl]"))
    assert found.obs["perturbation"].tolist() == ["control", "+".join(sorted([a, b])), a]


def test_drawn_cells_have_the_predicted_mean(run):
    name = names_of(run)[0]
    cells = written(predict(f"ckpt={run}", f"perturbations=[{name}]", "cells=4000"))
    profile = written(predict(f"ckpt={run}", f"perturbations=[{name}]"))
    assert cells.obs["perturbation"].value_counts().to_dict() == {"control": 4000, name: 4000}
    mean = cells[cells.obs["perturbation"] == name].X.mean(axis=0)
    ratio = np.asarray(mean).ravel().sum() / np.expm1(profile.X[1]).sum()
    assert 0.9 < ratio < 1.2  # size factors of controls average a little above their median
    again = written(predict(f"ckpt={run}", f"perturbations=[{name}]", "cells=4000"))
    assert (again.X != cells.X).nnz == 0


def test_the_controls_of_a_file_are_moved(run, tmp_path):
    other = screen_file(tmp_path / "other.h5ad")
    found = written(predict(f"ckpt={run}", f"data.path={tmp_path / 'other.h5ad'}"))
    assert found.obs["perturbation"].value_counts().to_dict() == other.obs["perturbation"].value_counts().to_dict()
    controls = found[found.obs["perturbation"] == "control"].X
    assert (controls != other[other.obs["perturbation"] == "control"].X).nnz == 0
    assert found.uns["scale"] == "counts"
    name = names_of(run)[0]
    moved = np.asarray(found[found.obs["perturbation"] == name].X.mean(axis=0)).ravel()
    real = np.asarray(other[other.obs["perturbation"] == name].X.mean(axis=0)).ravel()
    control = np.asarray(controls.mean(axis=0)).ravel()
    assert np.abs(moved - real).mean() < np.abs(control - real).mean()


def test_genes_that_differ_are_refused_or_left_out(run, tmp_path):
    screen_file(tmp_path / "few.h5ad", genes=slice(3, None))
    words = (f"ckpt={run}", f"data.path={tmp_path / 'few.h5ad'}")
    refused = predict(*words)
    assert refused.code == 2
    assert "lacks 3 of the 30 genes" in refused.err
    assert "type genes=shared to predict the 27 that both have" in refused.err
    assert written(predict(*words, "genes=shared")).n_vars == 27


def test_another_scale_is_refused(run, tmp_path):
    adata = screen_file(tmp_path / "counts.h5ad")
    adata.X = adata.X.log1p()
    adata.write_h5ad(tmp_path / "logs.h5ad")
    refused = predict(f"ckpt={run}", f"data.path={tmp_path / 'logs.h5ad'}", "data.scale=log1p")
    assert refused.code == 2
    assert "trained on the scale counts" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "ckpt has no value: type ckpt="),
        (("ckpt=nowhere",), "no checkpoint in nowhere"),
        (("ckpt={run}", "perturbations=[NOPE]"), "has no row for them (NOPE)"),
        (("ckpt={run}", "perturbations=[control]"), "control is no perturbation"),
        (("ckpt={run}", "perturbations=[]"), "no perturbation was named"),
        (("ckpt={run}", "contexts=[moon]"), "knows no context 'moon'"),
        (("ckpt={run}", "cells=0"), "cells=0"),
        (("ckpt={run}", "genes=some"), "genes=some"),
        (("ckpt={run}", "data.path=none.h5ad"), "no file none.h5ad"),
        (("ckpt={run}", "out=predictions"), "let the name end with .h5ad"),
        (("ckpt={run}", "out=/proc/x.h5ad"), "cannot be written"),
        (("ckpt={run}", "contexts=[]"), "contexts=[] names none"),
        (("ckpt={run}", "perturbations=[../x,<y>]"), """type 'perturbations=["../x","<y>"]'"""),
    ],
)
def test_a_wrong_request_is_one_message_and_leaves_nothing(run, module_outputs, words, said):
    before = set((module_outputs / "predictions").rglob("*")) if (module_outputs / "predictions").exists() else set()
    done = predict(*[word.replace("{run}", str(run)) for word in words])
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    after = set((module_outputs / "predictions").rglob("*")) if (module_outputs / "predictions").exists() else set()
    assert {path for path in after - before if path.is_file()} == set()


def test_a_checkpoint_of_a_foreign_class_is_not_built(run, tmp_path):
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    stored["restore"]["model"]["_target_"] = "os.system"
    torch.save(stored, tmp_path / "evil.ckpt")
    done = predict(f"ckpt={tmp_path / 'evil.ckpt'}")
    assert done.code == 2
    assert "was written by os.system, which no model= of this installation builds" in done.err


@pytest.mark.parametrize("part", ["restore", "schema"])
def test_weights_without_their_meaning_are_refused(run, tmp_path, part):
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    del stored[part]
    torch.save(stored, tmp_path / "bare.ckpt")
    done = predict(f"ckpt={tmp_path / 'bare.ckpt'}")
    assert (done.code, "holds weights but not what they mean" in done.err) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["cell-eval", "cell-eval2"])
def test_the_file_is_accepted_unchanged(run, tmp_path, tool):
    pytest.importorskip(tool.replace("-", "_"), reason="install the check extra")
    screen_file(tmp_path / "real.h5ad", control="non-targeting")
    pred = predict(f"ckpt={run}", f"data.path={tmp_path / 'real.h5ad'}", "data.control=non-targeting").folder
    words = ["run", "-ap", str(pred), "-ar", str(tmp_path / "real.h5ad"), "--pert-col", "perturbation", "-o", "out"]
    words += ["--control-pert", "non-targeting"] if tool == "cell-eval" else ["--preset", "vcc2026"]
    done = subprocess.run(
        [str(Path(sys.executable).parent / tool), *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(results) >= 15


def test_gears_predicts_by_name_and_moves_the_controls_of_a_file(tmp_path):
    done = command("model=gears", *TINY, "data.batch_size=16", "model.hidden_size=8")
    assert done.code == 0, done.err
    frame = EvaluationFrame.from_anndata(anndata.read_h5ad(done.folder / "predictions.h5ad"))
    found = written(predict(f"ckpt={done.folder}", f"perturbations=[{','.join(frame.perturbation)}]"))
    np.testing.assert_allclose(found.X[1:], frame.predictions["gears"], rtol=1e-5, atol=1e-6)
    screen_file(tmp_path / "other.h5ad")
    name = frame.perturbation[0]
    words = (f"data.path={tmp_path / 'other.h5ad'}", f"perturbations=[{name}]", "cells=3000")
    cells = written(predict(f"ckpt={done.folder}", *words))
    assert cells.uns["scale"] == "log1p"  # counts were normalised as those that it was trained on
    moved, control = (
        np.asarray(cells[cells.obs["perturbation"] == label].X.mean(axis=0)).ravel() for label in (name, "control")
    )
    effect = found.X[1] - found.X[0]
    expected = np.maximum(control + effect, 0.0)  # the other screen has controls of its own
    assert np.corrcoef(moved - control, expected - control)[0, 1] > 0.95
    assert moved.max() < control.max() + 2
    refused = predict(f"ckpt={done.folder}", f"perturbations=[{name}]", "cells=3")
    assert (refused.code, "draws no cells" in refused.err) == (2, True)
