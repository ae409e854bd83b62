"""A run on pairs from the command line, with a model as small as can be: files, words, resuming, sweeps."""

import json
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import Ran, command, of
from pair_runs import SMALL, STAND_IN, made, on_pairs
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pertexp.config.errors import DataError
from pertexp.evaluation.pairs.predictions import COLUMNS, pooled, stored
from pertexp.models.baselines.pairs import Distance, ElementLength, GcCpg, why_not_counted
from pertexp.tasks.registry import restore

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("outputs")]

ROWS = [
    "gc_stand_in", "gc_stand_in (enhancer only)", "gc_stand_in (promoter only)", "gc_stand_in (permuted support)",
    "prevalence", "distance", "promoter_rate", "gc_cpg", "composition", "element_length", "kmer_logistic",
    "kmer_boosting",
]  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = on_pairs()
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def document(ran) -> dict:
    return json.loads((ran.folder / "metrics.json").read_text())


def test_a_run_on_pairs_leaves_what_is_needed(ran, document):
    there = {path.name for path in ran.folder.iterdir()}
    assert there >= {"predictions.parquet", "metrics.json", "split.parquet", "data.json", "environment.json"}
    assert not [path for path in ran.folder.rglob("*") if "partial" in path.name]
    assert (document["task"], document["model"], document["primary"]) == ("pairs", "gc_stand_in", "auprc")
    data = json.loads((ran.folder / "data.json").read_text())
    assert data["task"] == "pairs"
    assert sum(data["pairs_by_role"].values()) == data["pairs"] == 450
    assert data["lines"] == ["line01", "line02", "line03"]


def test_it_says_how_many_test_pairs_are_not_scored(ran, document):
    tested = json.loads((ran.folder / "data.json").read_text())["pairs_by_role"]["test"]
    scored = len(stored(ran.folder)) // len(ROWS)
    assert 0 < scored < tested
    said = f"{tested - scored} of {tested} test pairs describe their cell line"
    assert any(said in note for note in document["notes"])
    assert said in " ".join(ran.out.split())


def test_the_table_of_pairs(ran, document):
    table = pd.read_parquet(ran.folder / "predictions.parquet")
    assert list(table.columns) == COLUMNS
    assert list(table["model"].unique()) == ROWS == list(document["roles"])
    assert table.groupby("model").size().nunique() == 1
    split = pd.read_parquet(ran.folder / "split.parquet")
    key = ["cell_line", "enhancer", "promoter"]
    tested = split[split["fold0"] == "test"]
    own = table[table["model"] == "gc_stand_in"]
    assert len(own) == len(tested) - 4  # the support set
    assert own.merge(tested, on=key).shape[0] == len(own)
    assert (table["fold"] == 0).all()


def test_values_follow_from_the_table(ran, document):
    table = stored(ran.folder)
    for row in document["aggregate"]:
        own = table[table["model"] == row["model"]]
        if row["metric"] == "auprc":
            assert row["mean"] == pytest.approx(average_precision_score(own["label"], own["probability"]))
        if row["metric"] == "f1":
            assert row["mean"] == pytest.approx(f1_score(own["label"], own["called"].astype(bool)))
            assert (own["called"] == (own["probability"] >= document["thresholds"][row["model"]])).all()
    for name in ("by_line", "by_fold", "pooled"):
        assert {"model", "metric", "value", "n", "prevalence"} <= set(document[name][0])


def test_criteria_and_diagnostics(ran, document):
    found = {one["quantity"]: one for one in document["success_criteria"]}
    assert found["bias"]["passed"] is True
    assert found["bias"]["note"] == "of 3 lines"
    assert found["adversary"]["passed"] is None
    test = found["test/auprc"]
    assert test["passed"] == (test["value"] >= 0.75)
    assert test["chance"] == pytest.approx(document["aggregate"][0]["prevalence"])
    gap = document["generalisation"]
    assert found["gap"]["value"] == pytest.approx(gap["train"]["auprc"] - gap["test"]["auprc"])
    assert set(document["diagnostics"]) == {"bias"}
    assert "pass: a bias that is no outlier (bias" in ran.out
    assert "not measured: adversary below 0.3" in ran.out
    assert document["support_draws"]["n_draws"] == 2


def test_the_console_says_what_matters(ran):
    assert "gc_stand_in on simulated_pairs, fold 0" in ran.out
    assert "gc_stand_in (permuted support) on auprc" in ran.out
    assert "auprc by chance: the share of positives" in ran.out
    assert f"page: {ran.folder / 'report.html'}" in ran.out
    assert max(map(len, [line for line in ran.out.splitlines() if "/" not in line])) <= 100


def test_a_run_repeats_to_the_last_bit(ran, outputs):
    again = command(f"repeat={ran.folder}")
    assert again.code == 0, again.err
    pd.testing.assert_frame_equal(stored(again.folder), stored(ran.folder))


def test_the_checkpoint_says_what_it_was_trained_on(ran):
    checkpoint = torch.load(ran.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(checkpoint["schema"]) == {"lines", "train_lines", "pairs_hash", "split_hash", "fold", "versions"}
    assert checkpoint["schema"]["train_lines"] == ["line02", "line03"]
    assert checkpoint["restore"]["lines"] == ["line01", "line02", "line03"]
    assert checkpoint["restore"]["data"]["enhancer_length"] == 400
    assert checkpoint["restore"]["model"]["_target_"] == "gc_model.GcModel.from_data"


@pytest.mark.parametrize(("command_of", "words"), [
    ("evaluate", ["pred=x.h5ad", "data=simulated_screen", "evaluation=pairs"]),
    ("calibrate", ["data=simulated_screen", "evaluation=pairs"]),
])  # fmt: skip
def test_commands_of_screens_refuse_its_evaluation_in_one_message(command_of, words):
    done = of(import_module(f"pertexp.{command_of}").main, f"pertexp.{command_of}", *words)
    assert done.code == 2
    assert re.search(
        "for pairs: type evaluation=core|evaluation=pairs scores pairs, but data=simulated_screen", done.err
    )
    assert len(done.err.strip().splitlines()) == 1


def test_a_model_of_another_installation_is_not_built(ran):
    with pytest.raises(DataError, match=r"gc_model\.GcModel\.from_data, which no model= of this installation"):
        restore(str(ran.folder))


def test_resuming_goes_on_and_other_data_are_refused(ran):
    place = ran.folder / "checkpoints" / "last.ckpt"
    longer = on_pairs(f"ckpt_path={place}", "trainer.max_epochs=2")
    assert longer.code == 0, longer.err
    straight = on_pairs("trainer.max_epochs=2")
    pd.testing.assert_frame_equal(stored(longer.folder), stored(straight.folder))
    for word, key in (("data.split.fold=1", "fold"), ("data.simulator.n_lines=4", "lines")):
        refused = on_pairs(f"ckpt_path={place}", word)
        assert refused.code == 2
        assert f"was trained on other data ({key} differs)" in refused.err


@pytest.mark.parametrize(("words", "said"), [
    ([*STAND_IN, "data=simulated_screen"], "evaluation=pairs scores pairs, but data=simulated_screen holds screens"),
    (["model=nbglm", *SMALL], "evaluation=core scores screens, but data=simulated_pairs holds pairs"),
    (["model=nbglm", "evaluation=pairs", *SMALL], "but model=nbglm predicts profile: type model=prism"),
    ([*STAND_IN, *SMALL, "evaluation=core"], "evaluation=core scores screens"),
    ([*STAND_IN, *SMALL, "evaluation.primary=auprk"], "did you mean auprc"),
    ([*STAND_IN, *SMALL, "evaluation.n_draws=0"], "evaluation.n_draws=0: expected at least 1"),
    ([*STAND_IN, *SMALL, "evaluation.baselines.kmer_boosting.k=9"], "k=9"),
    ([*STAND_IN, *SMALL, "evaluation.baselines.kmer_logistic.penalties=[1,0]"], "penalties=[1, 0]: expected numbers"),
    ([*STAND_IN, *SMALL, "evaluation.baselines.composition.penalties=10"], "composition.penalties"),
])  # fmt: skip
def test_what_does_not_fit_is_one_message(words, said, outputs):
    done = command(*words, "print_config=false")
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list(outputs.rglob("metrics.json"))


def test_without_support_or_validation_or_places_there_is_less_and_it_is_said():
    bare = on_pairs("data.support_size=0", "data/split=random", "data.split.val_fraction=0", "callbacks=resume",
                    "~evaluation.baselines.kmer_boosting")  # fmt: skip
    assert bare.code == 0, bare.err
    document = json.loads((bare.folder / "metrics.json").read_text())
    assert document["support_draws"] is None
    assert document["generalisation"]["val"] is None
    assert set(document["thresholds"].values()) == {None}
    assert "gc_stand_in (permuted support)" not in document["roles"]
    assert {row["mean"] for row in document["aggregate"] if row["metric"] == "f1"} == {None}
    assert "elements of the test pairs are trained on" in bare.out
    assert "describe their cell line" not in bare.out


def test_distance_is_not_counted_where_it_would_cheat(data_dir, monkeypatch):
    if not (data_dir / "ep").is_dir():
        pytest.skip("no folder ep/ in the data folder")
    monkeypatch.setenv("PERTEXP_DATA", str(data_dir))
    matched = made("data=ep_pairs", "data.lines=[IMR90,NHEK]").design
    assert "drew them farther apart" in why_not_counted(Distance(), matched)
    rows = matched.scored("test")
    found = Distance().fit(matched).predict(matched, rows)
    assert roc_auc_score(matched.pairs.label[rows], found) > 0.7  # it does cheat
    natural = made("data=ep_pairs", "data.lines=[IMR90,NHEK]", "data.window=w200", "data.negatives=targetfinder")
    assert why_not_counted(Distance(), natural.design) is None
    pairs = natural.design.pairs
    unknown = replace(natural.design, pairs=replace(pairs, distance=np.full(len(pairs), np.nan)))
    assert "no distances" in why_not_counted(Distance(), unknown)
    for baseline in (GcCpg(), ElementLength()):
        assert why_not_counted(baseline, unknown) is None


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = on_pairs("-m", "data.split.line=line01,line02", "data.split.fold=0,1", "optimizer.lr=0.001,0.1",
                        "~evaluation.baselines.kmer_boosting")  # fmt: skip
    assert done.code == 0, done.err
    return done


def jobs_with(swept: Ran, word: str) -> list[Path]:
    found = sorted(swept.folder.parent.glob("*/metrics.json"))
    return [path.parent for path in found if word in (path.parent / "config" / "overrides.yaml").read_text()]


def test_a_sweep_over_lines_and_folds_ends_with_one_table(swept):
    table = pd.read_csv(swept.folder)
    own = table[table["role"] == "model"]
    assert sorted(own["optimizer.lr"]) == [0.001, 0.1]
    assert set(table["folds"]) == {4}
    for _, row in own.iterrows():
        joined = pd.concat([stored(folder) for folder in jobs_with(swept, f"optimizer.lr={row['optimizer.lr']}")])
        cells = joined[joined["model"] == "gc_stand_in"].groupby(["cell_line", "fold"])
        values = {key: average_precision_score(cell["label"], cell["probability"]) for key, cell in cells}
        expected = pd.Series(values).groupby(level=0).mean().mean()
        assert row["auprc"] == pytest.approx(expected, rel=1e-9)
    constant = table.set_index("model").loc["prevalence", ["auroc", "auroc_sd"]].tolist()
    assert constant == [0.5, pytest.approx(np.nan, nan_ok=True)]
    assert list(table.loc[table["role"] == "baseline", "model"]) == [
        "prevalence",
        "distance",
        "promoter_rate",
        "gc_cpg",
        "composition",
        "element_length",
        "kmer_logistic",
    ]
    assert set(table["role"]) == {"model", "masked", "baseline"}


def test_a_sweep_ends_with_a_verdict(swept):
    said = swept.out[swept.out.index("best of 2 settings") :]
    assert "auprc of gc_stand_in, by line: line01 0." in said
    assert "over 8 chromosomes" in said
    assert any(words in said for words in (" beats ", " does not beat ", " is worse than "))
    assert f"page: {swept.folder.parent / 'report.html'}" in said


def test_a_line_and_fold_twice_cannot_be_pooled(swept):
    folder = jobs_with(swept, "optimizer.lr=0.1")[0]
    with pytest.raises(DataError, match="stand in several of the runs"):
        pooled([stored(folder), stored(folder)])
