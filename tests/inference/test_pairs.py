"""New pairs of new lines from the checkpoint of a run on pairs, and that run scored anew."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import Ran, command, of
from omegaconf import OmegaConf
from pair_data import bases, little_pairs, write_tsv
from prism_words import PRISM

from pertexp.config.errors import DataError, RequestError
from pertexp.config.instantiate import build
from pertexp.data.pairs.datamodule import PairData
from pertexp.data.pairs.tokens import decode
from pertexp.evaluation.pairs.predictions import stored
from pertexp.inference.pairs import candidates, draw_support
from pertexp.runs.record import saved_config
from pertexp.tasks.pairs import PAIRS
from pertexp.tasks.registry import restore
from pertexp.tasks.screens import SCREENS

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("module_outputs")]

WORDS = (*PRISM, "trainer.max_epochs=2", "stages.plan.warm_up.epochs=0", "callbacks.best.first_epoch=0")


def predict(*words: str) -> Ran:
    from pertexp import predict as entry

    return of(entry.main, "pertexp.predict", *words)


def evaluate(*words: str) -> Ran:
    from pertexp import evaluate as entry

    return of(entry.main, "pertexp.evaluate", *words)


@pytest.fixture(scope="module")
def run(module_outputs) -> Path:
    done = command(*WORDS)
    assert done.code == 0, done.err
    return done.folder


@pytest.fixture(scope="module")
def data(run) -> PairData:
    return build(saved_config(str(run)).data, "data")


def rows_of(data: PairData, rows: np.ndarray) -> pd.DataFrame:
    """Pairs of the run as a user would hand them over."""
    pairs = data.design.pairs
    frame = pairs.units.iloc[rows][["cell_line", "enhancer", "promoter"]].reset_index(drop=True)
    for side, number in (("enhancer", pairs.enhancer), ("promoter", pairs.promoter)):
        frame[f"{side}_sequence"] = [decode(pairs.elements.store.element(int(one))) for one in number[rows]]
    return frame


def new_pairs(n: int = 24, lines: tuple[str, ...] = ("B", "A")) -> pd.DataFrame:
    rows = [(line, bases(60 + k, 2 * k), bases(90 - k, 2 * k + 1)) for line in lines for k in range(n)]
    frame = pd.DataFrame(rows, columns=["cell_line", "enhancer_sequence", "promoter_sequence"])
    return frame.sample(frac=1, random_state=0, ignore_index=True)


def answer(run: Path, frame: pd.DataFrame, place: Path, *words: str) -> pd.DataFrame:
    done = predict(
        f"ckpt={run}", f"data.path={write_tsv(place / 'new.tsv', frame)}", f"out={place / 'out.tsv'}", *words
    )
    assert done.code == 0, done.err
    return pd.read_csv(place / "out.tsv", sep="\t")


def test_it_says_what_the_run_said_of_the_same_pairs_with_the_same_support(run, data, tmp_path):
    design = data.design
    (support,) = design.support("test", 0).values()
    rows = np.random.default_rng(0).permutation(design.scored("test", 0))
    shown = write_tsv(tmp_path / "shown.tsv", rows_of(data, support[::-1]))
    found = answer(run, rows_of(data, rows), tmp_path, f"support={shown}", "draws=1")
    expected = stored(run)
    expected = expected[expected["model"] == "prism"].set_index(["cell_line", "enhancer", "promoter"])
    expected = expected.loc[pd.MultiIndex.from_frame(found[["cell_line", "enhancer", "promoter"]])]
    np.testing.assert_allclose(found["probability"], expected["probability"], rtol=1e-5)
    assert found["called"].tolist() == expected["called"].tolist()
    assert found["probability_sd"].isna().all()
    other = answer(run, rows_of(data, rows), tmp_path, "draws=1")  # its own pairs describe the line
    assert np.abs(other["probability"] - found["probability"]).max() > 1e-6


def test_every_row_gets_a_row_in_its_order_and_labels_are_not_looked_at(run, tmp_path):
    frame = new_pairs()
    found = answer(run, frame, tmp_path)
    assert found["cell_line"].tolist() == frame["cell_line"].tolist()
    assert list(found) == ["cell_line", "enhancer", "promoter", "probability", "probability_sd", "called"]
    names = dict(zip(frame["enhancer_sequence"], found["enhancer"], strict=True))
    assert [names[text] for text in frame["enhancer_sequence"]] == found["enhancer"].tolist()
    labelled = frame.assign(label=np.where(np.arange(len(frame)) % 2, "1", "who knows"))
    pd.testing.assert_frame_equal(answer(run, labelled, tmp_path), found)


def test_the_mean_and_spread_are_those_of_single_draws(run, data, tmp_path):
    found = answer(run, new_pairs(), tmp_path, "draws=3", "seed=4")
    trained = restore(str(run))
    from pertexp.data.pairs.reading import SequencePairTable
    from pertexp.inference.pairs import Shown, predict_with

    shown = Shown(80, 80, 64, 10)
    pairs = SequencePairTable(path=str(tmp_path / "new.tsv")).read_unlabelled().spaced(shown.windows.gap)
    rows = candidates(pairs, pairs, 10)
    singles = [predict_with(trained, shown, pairs, pairs, draw_support(rows, 10, 4, draw)) for draw in range(3)]
    np.testing.assert_allclose(found["probability"], np.mean(singles, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["probability_sd"], np.std(singles, axis=0, ddof=1), rtol=1e-9)
    assert found["probability_sd"].max() > 0


def test_a_line_is_predicted_alike_whatever_other_lines_stand_beside_it(run, tmp_path):
    frame = new_pairs()
    both = answer(run, frame, tmp_path)
    alone = answer(run, frame[frame["cell_line"] == "B"], tmp_path)
    kept = both[both["cell_line"] == "B"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, kept)


def test_places_are_written_as_they_were_given(run, tmp_path):
    frame = new_pairs()
    for side, start in (("enhancer", 1000), ("promoter", 90_000)):
        frame[f"{side}_start"] = start + 200 * np.arange(len(frame))
        frame[f"{side}_end"] = frame[f"{side}_start"] + frame[f"{side}_sequence"].str.len() - 1
    frame = frame.assign(chr="chr7").rename(columns={"cell_line": "cell"})
    words = ("data.coordinates=one_based", "data.columns.chrom=chr", "data.columns.cell_line=cell")
    found = answer(run, frame, tmp_path, *words)
    for name in ("enhancer_start", "enhancer_end", "promoter_start", "promoter_end"):
        assert found[name].tolist() == frame[name].tolist()
    assert set(found["chrom"]) == {"chr7"}
    refused = predict(f"ckpt={run}", f"data.path={tmp_path / 'new.tsv'}", *words[1:], "data.coordinates=zero_based")
    assert (refused.code, "check that coordinates are zero_based" in refused.err) == (2, True)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_other_files(run, tmp_path, ending):
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet}[ending]
    expected = answer(run, new_pairs(), tmp_path)
    done = predict(f"ckpt={run}", f"data.path={tmp_path / 'new.tsv'}", f"out={tmp_path / ('out' + ending)}")
    assert done.code == 0, done.err
    pd.testing.assert_frame_equal(read(tmp_path / f"out{ending}"), expected)


def test_without_a_place_it_lies_in_a_folder_of_its_own(run, tmp_path, module_outputs):
    done = predict(f"ckpt={run}", f"data.path={write_tsv(tmp_path / 'new.tsv', new_pairs())}")
    assert done.code == 0, done.err
    assert done.folder.name == "predictions.tsv"
    assert done.folder.is_relative_to(module_outputs / "predictions")


def test_calls_are_left_out_where_no_threshold_was_chosen_for_these_weights(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    assert "called" not in answer(copy / "checkpoints" / "last.ckpt", new_pairs(), tmp_path)
    (copy / "metrics.json").unlink()
    done = predict(f"ckpt={copy}", f"data.path={tmp_path / 'new.tsv'}", f"out={tmp_path / 'x.tsv'}")
    assert f"`called` is left out: {copy} keeps no threshold" in done.out
    assert "called" not in pd.read_csv(tmp_path / "x.tsv", sep="\t")


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (None, (), "data.path has no value: type data.path=new.tsv"),
        (None, ("data.path=none.tsv",), "no file none.tsv"),
        (lambda f: f, ("cells=3",), "cells is not an option for a model of pairs"),
        (lambda f: f, ("perturbations=[A]",), "perturbations is not an option for a model of pairs"),
        (lambda f: f, ("data.perturbation_key=x",), "data.perturbation_key is not an option for a model of pairs"),
        (lambda f: f, ("out=x.h5ad",), "let the name end with .tsv or .csv or .parquet"),
        (lambda f: f, ("draws=0",), "draws=0"),
        (lambda f: f, ("support=none.tsv",), "no file none.tsv: type support="),
        (lambda f: f, ("data.columns.cell_line=tissue",), "has no column 'tissue' (data.columns.cell_line)"),
        (lambda f: f, ("data.columns.lable=y",), "there is no option 'data.columns.lable'"),
        (lambda f: f.drop(columns="promoter_sequence"), (), "has no column 'promoter_sequence'"),
        (lambda f: f.head(0), (), "holds no pair"),
        (lambda f: f.assign(enhancer_sequence="ACGX"), (), "holds the letter 'X' at place 4"),
        (lambda f: f.assign(enhancer_sequence=""), (), "row 1: the enhancer sequence is empty"),
        (lambda f: f.assign(cell_line=" "), (), "row 1: the cell line is missing"),
        (lambda f: f.groupby("cell_line").head(7), (), "cell line A has 7 pairs to describe it by"),
    ],
)
def test_a_wrong_request_is_one_message_and_leaves_nothing(run, tmp_path, module_outputs, change, words, said):
    given = () if change is None else (f"data.path={write_tsv(tmp_path / 'new.tsv', change(new_pairs()))}",)
    folders = set((module_outputs / "predictions").glob("*/*"))
    done = predict(f"ckpt={run}", *given, *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err
    assert set((module_outputs / "predictions").glob("*/*")) == folders


def test_a_line_with_few_pairs_is_described_by_all_of_them_or_by_another_table(run, tmp_path):
    few = new_pairs(9, ("A",))
    found = answer(run, few, tmp_path)
    done = predict(f"ckpt={run}", f"data.path={tmp_path / 'new.tsv'}", f"out={tmp_path / 'again.tsv'}")
    assert "cell line A is described by all of its 9 pairs" in done.out
    assert (found["probability_sd"] == 0).all()
    more = write_tsv(tmp_path / "more.tsv", new_pairs(24, ("A",)))
    assert len(answer(run, few.head(2), tmp_path, f"support={more}")) == 2
    foreign = predict(
        f"ckpt={run}", f"data.path={tmp_path / 'new.tsv'}", f"support={write_tsv(more, new_pairs(24, ('B',)))}"
    )
    assert "cell line A has 0 pairs to describe it by" in foreign.err


def test_who_describes_a_line():
    pairs = little_pairs(n_lines=2, chromosomes=("chr1",))
    rows = candidates(pairs, pairs, 9)
    assert {name: pairs.line[own].tolist() for name, own in rows.items()} == {"L0": [0] * 9, "L1": [1] * 9}
    drawn = [draw_support(rows, 4, 0, draw)["L0"] for draw in range(20)]
    assert all(np.unique(own).size == 4 and set(own) <= set(rows["L0"]) for own in drawn)
    assert set(np.concatenate(drawn)) == set(rows["L0"])
    np.testing.assert_array_equal(draw_support(rows, 4, 0, 3)["L0"], drawn[3])
    assert candidates(pairs, pairs, 0)["L0"].size == 9
    with pytest.raises(DataError, match="cell line L0 has 3 pairs"):
        candidates(pairs, pairs.take(np.arange(3)), 4)


def test_options_of_pairs_are_refused_for_a_model_of_screens():
    of_profiles, of_pairs = SCREENS.evaluators["profile"].predicting, PAIRS.evaluators["probability"].predicting
    for word in ("draws=3", "support=x.tsv", "data.columns.chrom=c", "data.coordinates=one_based"):
        with pytest.raises(RequestError, match="is not an option for a model of a screen"):
            of_profiles.refuse_options_of([of_pairs], [word])
    of_profiles.refuse_options_of([of_pairs], ["ckpt=x", "data.path=y", "cells=3", "hydra.run.dir=z"])


def changed(run: Path, place: Path, change) -> Path:
    stored_file = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    change(stored_file)
    torch.save(stored_file, place / "changed.ckpt")
    return place / "changed.ckpt"


def backbone(**options):
    return lambda stored: stored["restore"]["model"]["backbone"].update(options)


def under_another_name(stored):
    stored["restore"]["model"]["../data"] = {"_target_": "pertexp.data.pairs.datamodule.SimulatedPairData"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (backbone(_target_="os.system", command="true"), "names os.system under backbone"),
        (backbone(_target_="pertexp.data.pairs.datamodule.TablePairData"), "TablePairData under backbone, which no"),
        (under_another_name, "SimulatedPairData under ../data, which no model/"),
        (backbone(filters={"_target_": "os.system", "command": "true"}), "model.backbone.filters"),
        (backbone(filters=5), "does not fit the model that it names"),
        (backbone(layers=2), "backbone.attention"),
        (backbone(heads=0), "model.backbone.heads"),
        (backbone(colour="red"), "unexpected keyword argument 'colour'"),
        (lambda s: s["restore"]["model"].update(invariant_width=7), "does not fit the model that it names"),
        (lambda s: s["restore"]["model"].pop("backbone"), "missing a required argument: 'backbone'"),
        (lambda s: s["restore"]["model"].update(backbone="cnn"), "does not fit the model that it names"),
        (lambda s: s["restore"].update(model=3), "does not fit the model that it names"),
        (lambda s: s["state_dict"].pop("network.potential.bias"), "network.potential.bias"),
        (lambda s: s["restore"].pop("task"), "holds weights but not what they mean"),
        (lambda s: s["restore"].pop("lines"), "does not fit the model that it names ('lines')"),
        (lambda s: s["restore"]["data"].pop("batch_size"), "batch_size"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_was_changed_is_one_message(run, tmp_path, change, said):
    table = write_tsv(tmp_path / "new.tsv", new_pairs())
    done = predict(f"ckpt={changed(run, tmp_path, change)}", f"data.path={table}")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert said in done.err


def test_columns_are_called_as_in_the_table_of_the_run(run, tmp_path):
    names = ("enhancer_sequence", "promoter_sequence", "label", "chrom")
    columns = {"cell_line": "tissue", "enhancer": None, "promoter": None, **{name: name for name in names}}
    of_table = changed(run, tmp_path, lambda stored: stored["restore"]["data"].update(columns=columns | {"label": "y"}))
    found = answer(of_table, new_pairs().rename(columns={"cell_line": "tissue"}), tmp_path)
    expected = answer(of_table, new_pairs(), tmp_path, "data.columns.cell_line=cell_line")
    pd.testing.assert_frame_equal(found, expected)


def test_a_run_on_pairs_scores_as_it_did(run):
    done = evaluate(f"ckpt={run}")
    assert done.code == 0, done.err
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (done.folder, run))
    assert ours["thresholds"] == pytest.approx(theirs["thresholds"], rel=1e-9)
    for mine, their in zip(ours["aggregate"], theirs["aggregate"], strict=True):
        assert {key: mine[key] for key in ("model", "metric")} == {key: their[key] for key in ("model", "metric")}
        for key in ("mean", "low", "high"):
            assert mine[key] == pytest.approx(their[key], rel=1e-9)
    pd.testing.assert_frame_equal(stored(done.folder), stored(run), rtol=1e-9)
    fewer = evaluate(f"ckpt={run}", "evaluation.n_resamples=40")
    assert json.loads((fewer.folder / "metrics.json").read_text())["bootstrap"]["n_resamples"] == 40


def test_other_data_or_another_evaluation_are_one_message(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    config = saved_config(str(copy))
    for name, value in (("seed", 1), ("noise", 0.5)):  # other pairs; the same ones with other labels
        changed_data = config.copy()
        changed_data.data.simulator[name] = value
        OmegaConf.save(changed_data, copy / "config" / "config.yaml")
        done = evaluate(f"ckpt={copy}")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "have changed since the model was trained (pairs_hash differs): restore the file" in done.err
    other = evaluate(f"ckpt={run}", "evaluation=core")
    assert (other.code, "evaluation=core scores screens, but" in other.err) == (2, True)
