"""Predictions of another tool and checkpoints, scored without training, on the road that a run takes."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from command import TINY, command, of
from screen_files import screen_file

from pertexp.evaluation.screens.frame import EvaluationFrame

pytestmark = pytest.mark.medium

FAST = ("evaluation.n_resamples=50",)


def evaluate(*words):
    from pertexp import evaluate as entry

    return of(entry.main, "pertexp.evaluate", *words, *FAST)


def calibrate(*words):
    from pertexp import calibrate as entry

    return of(entry.main, "pertexp.calibrate", *words, *FAST)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path / "outputs"))


def own_words(path):
    return (f"truth={path}", "data/perturbation_embedding=pca")


def predictions_of(real: anndata.AnnData, names: list[str], keep_control: bool = True) -> anndata.AnnData:
    """A perfect tool: the real cells of some perturbations (and of control)."""
    labels = real.obs["perturbation"].astype(str)
    return real[labels.isin([*names, *(["control"] if keep_control else [])])].copy()


def rows(folder):
    document = json.loads((folder / "metrics.json").read_text())
    return {(row["model"], row["metric"]): row["mean"] for row in document["aggregate"]}, document


def test_the_truth_itself_scores_perfectly_and_the_others_train(tmp_path):
    real = screen_file(tmp_path / "real.h5ad")
    names = sorted(set(real.obs["perturbation"].astype(str)) - {"control"})[:6]
    predictions_of(real, names).write_h5ad(tmp_path / "tool.h5ad")
    done = evaluate(*own_words(tmp_path / "real.h5ad"), f"pred={tmp_path / 'tool.h5ad'}", "pred_scale=counts")
    assert done.code == 0, done.err
    means, document = rows(done.folder)
    assert document["model"] == "tool"
    assert means["tool", "mse"] == pytest.approx(0.0, abs=1e-20)
    assert means["tool", "pearson_delta_shared_control"] == pytest.approx(1.0)
    for metric in ("pearson_delta", "pearson_delta_top20", "discrimination_cosine", "de_overlap", "de_direction"):
        assert means["tool", metric] == pytest.approx(means["truth", metric], abs=1e-9)
    assert means["truth", "pearson_delta"] < 0.99
    assert any(note.startswith("tool: it may have been fitted on control cells") for note in document["notes"])
    per_unit = pd.read_parquet(done.folder / "metrics.parquet")
    assert set(per_unit["perturbation"]) <= set(names)
    split = pd.read_parquet(done.folder / "split.parquet")
    assert set(split.loc[split["role"] == "test", "perturbation"]) == set(per_unit["perturbation"])


def test_a_tool_that_predicts_everything_is_scored_in_folds(tmp_path):
    real = screen_file(tmp_path / "real.h5ad")
    real.write_h5ad(tmp_path / "tool.h5ad")
    done = evaluate(*own_words(tmp_path / "real.h5ad"), f"pred={tmp_path / 'tool.h5ad'}", "pred_scale=counts")
    assert done.code == 0, done.err
    assert "baselines are fitted in folds of data.split" in done.out
    per_unit = pd.read_parquet(done.folder / "metrics.parquet")
    assert sorted(per_unit["fold"].unique()) == [0, 1, 2, 3, 4]
    stored = EvaluationFrame.from_anndata(anndata.read_h5ad(done.folder / "predictions.h5ad"))
    assert stored.n_units == per_unit[["perturbation", "context"]].drop_duplicates().shape[0]


def test_every_family_scores_given_cells_and_profiles_alike_for_the_truth(tmp_path):
    real = screen_file(tmp_path / "real.h5ad")
    names = sorted(set(real.obs["perturbation"].astype(str)) - {"control"})[:6]
    predictions_of(real, names).write_h5ad(tmp_path / "tool.h5ad")
    done = evaluate(
        *own_words(tmp_path / "real.h5ad"), f"pred={tmp_path / 'tool.h5ad'}", "pred_scale=counts",
        "evaluation=[core,cell_eval,vcc2026,gears]",
    )  # fmt: skip
    assert done.code == 0, done.err
    means, document = rows(done.folder)
    best = {(row["model"], row["metric"]): row["best"] for row in document["aggregate"]}
    own = {metric: value for (model, metric), value in means.items() if model == "tool"}
    perfect = {metric for metric, value in own.items() if value == pytest.approx(best["tool", metric])}
    assert perfect >= {
        "cell_eval/mse", "cell_eval/discrimination_score_l1", "cell_eval/pearson_edistance", "gears/mse",
        "vcc2026/pds_cosine", "vcc2026/sig_jaccard", "vcc2026/direction_reach",
    } - {m for (model, m), v in means.items() if v is None}  # fmt: skip


def test_profiles_and_missing_units_are_scored_as_what_they_are(tmp_path):
    real = screen_file(tmp_path / "real.h5ad")
    names = sorted(name for name in set(real.obs["perturbation"].astype(str)) if name != "control" and "+" not in name)
    chosen = names[:5]
    labels = real.obs["perturbation"].astype(str).to_numpy()
    depth = np.asarray(real.X.sum(axis=1)).ravel()
    size = depth / np.median(depth)
    profile = [np.log1p(np.asarray(real.X[labels == n].sum(axis=0)).ravel() / size[labels == n].sum()) for n in chosen]
    obs = pd.DataFrame({"perturbation": chosen}, index=[f"r{i}" for i in range(5)])
    anndata.AnnData(np.stack(profile), obs=obs, var=real.var).write_h5ad(tmp_path / "means.h5ad")
    done = evaluate(*own_words(tmp_path / "real.h5ad"), f"pred={tmp_path / 'means.h5ad'}", "pred_scale=profile")
    assert done.code == 0, done.err
    means, _ = rows(done.folder)
    assert means["means", "mse"] < 0.05 * means["train_mean", "mse"]  # the median depth is that of training cells


def test_a_checkpoint_scores_as_its_run_did(tmp_path):
    ran = command(*TINY)
    assert ran.code == 0, ran.err
    done = evaluate(f"ckpt={ran.folder}")
    assert done.code == 0, done.err
    ours, theirs = rows(done.folder)[0], rows(ran.folder)[0]
    assert ours == pytest.approx(theirs, rel=1e-9, nan_ok=True)
    other = evaluate(f"ckpt={ran.folder}", "evaluation=vcc2026")
    assert ("nbglm", "vcc2026/pds_cosine") in rows(other.folder)[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "type pred=any_tool.h5ad with truth=real.h5ad"),
        (("pred={tool}", "ckpt=x"), "one"),
        (("pred={tool}",), "data.path has no value"),
        (("truth={real}", "pred={tool}"), "does not say what its numbers are: type pred_scale="),
        (("truth={real}", "pred={tool}", "pred_scale=guess"), "pred_scale=guess"),
        (("truth={real}", "pred={tool}", "pred_scale=log1p"), "type pred_scale=counts if these are counts"),
        (("truth={real}", "pred={logs}", "pred_scale=log1p"), "type data.normalize=true to score both as logs"),
        (("truth={real}", "pred={few}", "pred_scale=counts"), "lack 10 of the 30 genes of the truth"),
        (("truth={real}", "pred={strangers}", "pred_scale=counts"), "none of the 1 predicted perturbations"),
        (("truth={real}", "pred={tool}", "pred_scale=profile"), "pred_scale=profile means one"),
        (("truth={real}", "pred=none.h5ad", "pred_scale=counts"), "no file none.h5ad"),
    ],
)
def test_a_wrong_request_is_one_message(tmp_path, words, said):
    real = screen_file(tmp_path / "real.h5ad")
    names = sorted(set(real.obs["perturbation"].astype(str)) - {"control"})
    places = {name: tmp_path / f"{name}.h5ad" for name in ("real", "tool", "logs", "few", "strangers")}
    tool = predictions_of(real, names[:6])
    tool.write_h5ad(places["tool"])
    tool[:, :20].copy().write_h5ad(places["few"])
    strangers = tool.copy()
    strangers.obs["perturbation"] = "NOBODY"
    strangers.write_h5ad(places["strangers"])
    logs = tool.copy()
    logs.X = sp.csr_matrix(logs.X).log1p() * 1.1
    logs.write_h5ad(places["logs"])
    done = evaluate("data/perturbation_embedding=pca", *[word.format(**places) for word in words])
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").rglob("metrics.json"))


def test_logs_are_scored_as_logs(tmp_path):
    real = screen_file(tmp_path / "real.h5ad")
    names = sorted(set(real.obs["perturbation"].astype(str)) - {"control"})[:6]
    tool = predictions_of(real, names, keep_control=False)
    depth = np.asarray(tool.X.sum(axis=1)).ravel()
    tool.X = sp.diags(np.median(depth) / depth).dot(sp.csr_matrix(tool.X)).log1p().tocsr()
    tool.write_h5ad(tmp_path / "logs.h5ad")
    words = (*own_words(tmp_path / "real.h5ad"), f"pred={tmp_path / 'logs.h5ad'}", "pred_scale=log1p")
    done = evaluate(*words, "data.normalize=true", "evaluation=[core,cell_eval]")
    assert done.code == 0, done.err
    assert rows(done.folder)[0]["logs", "pearson_delta_shared_control"] > 0.95


def test_calibration_covers_every_unit_of_every_fold_and_marks_what_is_not_to_be_trusted():
    small = [word for word in TINY if word.startswith("data.")]
    done = calibrate(*small, "evaluation=[core,vcc2026]")
    assert done.code == 0, done.err
    document = json.loads((done.folder / "calibration.json").read_text())
    table = {row["metric"]: row for row in document["calibration"]}
    assert table["mse"]["n"] == 15
    assert table["pearson_delta"]["trusted"] is True
    assert table["pearson_delta"]["bds"] > 0.8
    assert table["pearson_delta_mean"]["negative"] == "no_change"
    per_unit = pd.read_parquet(done.folder / "calibration.parquet")
    assert table["mse"]["bds"] == pytest.approx(per_unit.query("metric == 'mse'")["bds"].mean())
    assert "DRF" in done.out


def test_data_without_signal_have_no_metric_to_trust():
    small = [word for word in TINY if word.startswith("data.")]
    done = calibrate(*small, "data.simulator.effect_sd=0.0", "data.simulator.cells_per_perturbation=12")
    document = json.loads((done.folder / "calibration.json").read_text())
    bds = {row["metric"]: row["bds"] for row in document["calibration"]}
    assert bds["mse"] < 0.2
    assert "mse †" in done.out
    assert {row["metric"] for row in document["calibration"] if not row["trusted"]} >= {"mse", "mae"}


def test_a_family_that_does_not_apply_is_refused_before_training():
    done = command(*TINY, "data.normalize=true", "evaluation=vcc2026")
    assert done.code == 2
    assert "vcc2026/pds_cosine cannot be computed from profiles on the scale 'mean of log1p values'" in done.err
    assert "evaluation=vcc2026 needs 'log1p of counts at the median depth" in done.err
    assert "Type evaluation=core, or bring" in done.err
    assert "Epoch" not in done.out


def logs_at(tmp_path, depth: float, keep_control: bool):
    real = screen_file(tmp_path / "real.h5ad")
    names = sorted(set(real.obs["perturbation"].astype(str)) - {"control"})[:6]
    tool = predictions_of(real, names, keep_control)
    sums = np.asarray(tool.X.sum(axis=1)).ravel()
    tool.X = sp.diags(depth / sums).dot(sp.csr_matrix(tool.X)).log1p().tocsr()
    tool.write_h5ad(tmp_path / "logs.h5ad")
    return (
        *own_words(tmp_path / "real.h5ad"),
        f"pred={tmp_path / 'logs.h5ad'}",
        "pred_scale=log1p",
        "data.normalize=true",
    )


@pytest.mark.parametrize("keep_control", [True, False])
def test_logs_of_another_depth_are_refused_and_brought_to_that_of_the_truth_where_it_is_named(tmp_path, keep_control):
    words = logs_at(tmp_path, 1e4, keep_control)
    refused = evaluate(*words)
    assert refused.code == 2
    assert "a predicted cell adds up to 1e+04 counts" in refused.err
    done = evaluate(*words, "pred_depth=1e4")
    assert done.code == 0, done.err
    means, _ = rows(done.folder)
    assert means["logs", "pearson_delta_shared_control"] > 0.98
    assert means["logs", "mse"] < 0.1 * means["train_mean", "mse"]


def test_profiles_that_say_another_scale_are_refused(tmp_path):
    real = screen_file(tmp_path / "real.h5ad")
    names = sorted(set(real.obs["perturbation"].astype(str)) - {"control"})[:5]
    obs = pd.DataFrame({"perturbation": names}, index=names)
    values = np.random.default_rng(0).uniform(size=(5, real.n_vars))
    anndata.AnnData(values, obs=obs, var=real.var, uns={"scale": "zscore"}).write_h5ad(tmp_path / "z.h5ad")
    done = evaluate(*own_words(tmp_path / "real.h5ad"), f"pred={tmp_path / 'z.h5ad'}")
    assert (done.code, "on the scale 'zscore'" in done.err) == (2, True)


def test_a_split_that_is_typed_is_used_and_the_one_that_was_used_is_on_record(tmp_path):
    real = screen_file(tmp_path / "real.h5ad")
    names = sorted(set(real.obs["perturbation"].astype(str)) - {"control"})[:9]
    predictions_of(real, names).write_h5ad(tmp_path / "tool.h5ad")
    words = (f"truth={tmp_path / 'real.h5ad'}", "data/perturbation_embedding=pca", f"pred={tmp_path / 'tool.h5ad'}")
    folds = evaluate(*words, "pred_scale=counts", "data.split.folds=3")
    assert sorted(pd.read_parquet(folds.folder / "metrics.parquet")["fold"].unique()) == [0, 1, 2]
    named = evaluate(*words, "pred_scale=counts")
    assert set(pd.read_parquet(named.folder / "metrics.parquet")["fold"]) == {0}
    record = (named.folder / "config" / "config.yaml").read_text()
    assert "NamedTest" in record
    assert "UnseenPerturbation" not in record


@pytest.mark.parametrize("word", ["truth=x.h5ad", "data=papalexi", "pred_scale=counts", "genes=shared"])
def test_a_checkpoint_takes_no_other_data(word):
    done = evaluate("ckpt=somewhere", word)
    assert (done.code, f"but {word} was given too" in done.err) == (2, True)


def noisy_logs(tmp_path, lowest):
    """Log1p cells as a regression gives them: values of 0 are around it, one of them far below."""
    words = logs_at(tmp_path, 1e4, keep_control=True)
    path = next(word.removeprefix("pred=") for word in words if word.startswith("pred="))
    tool = anndata.read_h5ad(path)
    dense = np.asarray(tool.X.todense()) if sp.issparse(tool.X) else np.asarray(tool.X)
    zero = np.argwhere(dense == 0)[:2]
    dense[tuple(zero[0])], dense[tuple(zero[1])] = -0.01, lowest
    tool.X = dense
    tool.write_h5ad(path)
    return (*words, "pred_depth=1e4"), str(tool.var_names[zero[1][1]])


def test_logs_slightly_below_zero_are_clipped_and_it_is_said(tmp_path):
    plain = evaluate(*logs_at(tmp_path, 1e4, True), "pred_depth=1e4")
    words, _ = noisy_logs(tmp_path, -0.3)
    clipped = evaluate(*words)
    assert clipped.code == 0, clipped.err
    assert rows(clipped.folder)[0] == rows(plain.folder)[0]
    assert "2 of 5400 predicted values are below 0, down to -0.3, and are taken for 0" in clipped.out


def test_a_gene_far_below_zero_is_named(tmp_path):
    words, gene = noisy_logs(tmp_path, -0.6)
    refused = evaluate(*words)
    assert refused.code == 2
    assert f"holds -0.6 for {gene} (1 values below -0.5)" in refused.err
