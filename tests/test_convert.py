"""Files of cell-gears, written as it writes them, become ours; those that would run code run nothing."""

import collections
import os
import pickle
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from command import of
from frozen import read_golden

from pertexp import convert, predict
from pertexp.config.errors import DataError
from pertexp.data.plain_pickle import read_plain_pickle
from pertexp.data.screens.splits import UserTable
from pertexp.models.gears import GEARS

GENES = [f"GENE{number}" for number in range(11)]
NODES = ["A", "B", "C", "D", "E", "F", "G"]


def command(capsys, *words: object) -> tuple[int, str, str]:
    argv, code = sys.argv, 0
    sys.argv = ["pertexp.convert", *map(str, words)]
    try:
        convert.main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    finally:
        sys.argv = argv
    said = capsys.readouterr()
    return code, said.out, said.err


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.fixture
def saved(tmp_path):
    """What `GEARS.save_model` leaves, from the frozen weights, and the cells and names that it was trained with."""
    golden = read_golden("gears")
    start = "one/weights/"
    weights = {key[len(start) :]: torch.from_numpy(v).float() for key, v in golden.items() if key.startswith(start)}
    graph = {key: torch.from_numpy(golden[f"one/graph/{key}"]) for key in ("G_coexpress", "G_sim")}
    weight = {key: torch.from_numpy(golden[f"one/graph/{key}_weight"]).float() for key in graph}
    config = {
        "hidden_size": 4, "num_go_gnn_layers": 1, "num_gene_gnn_layers": 1, "decoder_hidden_size": 16,
        "num_similar_genes_go_graph": 20, "num_similar_genes_co_express_graph": 20, "coexpress_threshold": 0.4,
        "uncertainty": False, "uncertainty_reg": 1, "direction_lambda": 0.1, "device": "cpu", "no_perturb": False,
        "G_go": graph["G_sim"], "G_go_weight": weight["G_sim"], "G_coexpress": graph["G_coexpress"],
        "G_coexpress_weight": weight["G_coexpress"], "num_genes": 11, "num_perts": 7,
    }  # fmt: skip
    (tmp_path / "model").mkdir()
    torch.save(collections.OrderedDict(weights), tmp_path / "model" / "model.pt")
    (tmp_path / "model" / "config.pkl").write_bytes(pickle.dumps(config))
    (tmp_path / "nodes.pkl").write_bytes(pickle.dumps([*NODES[::-1], "UNKNOWN"]))
    (tmp_path / "gene2go.pkl").write_bytes(pickle.dumps({node: {"GO:1"} for node in NODES}))
    rng = np.random.default_rng(0)
    x = (rng.random((9, 11)) * (rng.random((9, 11)) < 0.7)).astype(np.float32)
    obs = pd.DataFrame({"condition": ["ctrl"] * 6 + ["A+ctrl", "ctrl+B", "A+B"], "cell_type": "K562"})
    obs.index = obs.index.map("cell{}".format)
    var = pd.DataFrame({"gene_name": GENES}, index=[f"ENSG{number}" for number in range(11)])
    anndata.AnnData(x, obs, var).write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path, x[:6].astype(np.float64).mean(axis=0), golden


def words(folder) -> list[object]:
    return ["gears-model", folder / "model", "--cells", folder / "cells.h5ad", "--nodes", folder / "nodes.pkl",
            "--terms", folder / "gene2go.pkl", "--out", folder / "gears.ckpt"]  # fmt: skip


def test_a_saved_model_predicts_as_it_did(saved, capsys):
    folder, control, golden = saved
    code, out, err = command(capsys, *words(folder))
    assert (code, err) == (0, "")
    assert "11 genes, 7 genes that can be perturbed" in out
    model = GEARS.from_checkpoint(torch.load(folder / "gears.ckpt", weights_only=True)["state_dict"])
    found = model.predict_sets([["C"], ["F", "C"]])
    assert found.var_names.tolist() == GENES
    # In the golden batch `mixed` cells 2 and 7 hold sets {2, 5}, cell 4 {2}, none of them the first of the batch; the
    # first cell holds {2}: an average of 300 cells is one such cell and 299 others.
    delta = golden["one/mixed/eval/out0"] - golden["one/mixed/x"]
    np.testing.assert_allclose(found.X[0] - control, (delta[0] + 299 * delta[4]) / 300, atol=2e-6)
    assert np.abs(found.X[1] - control - delta[2]).max() < 0.05  # but for the mixing of one cell in 300


def test_a_converted_model_predicts_at_the_door(saved, capsys, monkeypatch):
    folder, control, _ = saved
    command(capsys, *words(folder))
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(folder))
    done = of(predict.main, "pertexp.predict", f"ckpt={folder / 'gears.ckpt'}", "perturbations=[C,F+C]")
    assert done.code == 0, done.err
    found = anndata.read_h5ad(done.folder)
    assert found.obs["perturbation"].tolist() == ["control", "C", "C+F"]
    np.testing.assert_allclose(found.X[0], control, atol=1e-6)
    model = GEARS.from_checkpoint(torch.load(folder / "gears.ckpt", weights_only=True)["state_dict"])
    np.testing.assert_allclose(found.X[1:], model.predict_sets([["C"], ["C", "F"]]).X, atol=1e-6)
    assert (found.uns["model"], found.uns["scale"]) == ("gears", "mean of log1p values")


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("model/model.pt", lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot be read as weights"),
        ("model/model.pt", lambda path: path.unlink(), "no file"),
        ("model/config.pkl", lambda path: path.write_bytes(path.read_bytes()[:50]), "cannot be read as a pickle"),
        ("model/config.pkl", lambda path: path.write_bytes(pickle.dumps({"hidden_size": 4})), "G_coexpress"),
        ("nodes.pkl", lambda path: path.write_bytes(pickle.dumps(NODES[:5])), "5 genes in the perturbation graph"),
        ("nodes.pkl", lambda path: path.write_bytes(pickle.dumps([1, 2])), "no list of gene names"),
    ],
)
def test_a_damaged_file_is_one_message_and_leaves_nothing(name, spoil, said, saved, capsys):
    folder, _, _ = saved
    spoil(folder / name)
    code, _, err = command(capsys, *words(folder))
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert not list(folder.glob("*gears.ckpt*"))


@pytest.mark.parametrize("name", ["model/config.pkl", "nodes.pkl", "gene2go.pkl", "model/model.pt"])
def test_a_hostile_file_runs_nothing(name, saved, capsys):
    folder, _, _ = saved
    marker = folder / "pwned"
    (folder / name).write_bytes(pickle.dumps({"G_go": Hostile(marker)}))
    code, _, err = command(capsys, *words(folder))
    assert (code, err.count("\n")) == (2, 1)
    assert not marker.exists()


def test_a_hostile_tensor_storage_runs_nothing(tmp_path):
    """The storage of a tensor is a pickle inside the pickle."""
    marker = tmp_path / "pwned"

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (pickle.dumps(Hostile(marker)),)

    (tmp_path / "config.pkl").write_bytes(pickle.dumps(Storage()))
    with pytest.raises(DataError, match="cannot be read"):
        read_plain_pickle(tmp_path / "config.pkl")
    assert not marker.exists()


def test_plain_data_come_back(tmp_path):
    plain = {
        "a": [1, 2.5, "x", None, (True, {"s"})], "t": torch.arange(6.0).reshape(2, 3),
        "n": np.arange(4), "f": np.float64(2.5), "o": np.array(["x", "y"], dtype=object),
    }  # fmt: skip
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(plain))
    back = read_plain_pickle(tmp_path / "plain.pkl")
    assert (back["a"], back["f"], back["o"].tolist()) == (plain["a"], 2.5, ["x", "y"])
    assert torch.equal(back["t"], plain["t"])
    assert np.array_equal(back["n"], plain["n"])


def test_a_saved_split_is_a_table_of_ours(tmp_path, capsys):
    split = {"train": ["A+ctrl", "ctrl", "B+A"], "val": ["ctrl+C"], "test": np.array(["D+ctrl", "A+D"]).tolist()}
    (tmp_path / "split.pkl").write_bytes(pickle.dumps(split))
    code, out, _ = command(capsys, "gears-split", tmp_path / "split.pkl", "--out", tmp_path / "split.csv")
    assert code == 0
    assert "2 train" in out
    units = pd.DataFrame({"perturbation": ["control", "A", "A+B", "C", "D", "A+D"], "context": "K562", "n_cells": 9})
    table = UserTable(str(tmp_path / "split.csv"))(units).table.set_index("perturbation")
    assert table["role"].to_dict() == {
        "A": "train", "A+B": "train", "A+D": "test", "C": "val", "D": "test", "control": "control",
    }  # fmt: skip
    assert table.loc["A+D", "seen"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"test_subgroup": {}}, "no split of cell-gears"),
        ([1], "found list"),
        ({"train": ["A+ctrl"], "test": ["ctrl+A"]}, "A in train and in test"),
    ],
)
def test_what_is_no_split_is_refused(content, said, tmp_path, capsys):
    (tmp_path / "split.pkl").write_bytes(pickle.dumps(content))
    code, _, err = command(capsys, "gears-split", tmp_path / "split.pkl", "--out", tmp_path / "split.csv")
    assert code == 2
    assert said in err
    assert not (tmp_path / "split.csv").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    (tmp_path / "split.pkl").write_bytes(pickle.dumps({"train": ["A+ctrl"], "test": ["B+ctrl"]}))
    code, _, err = command(capsys, "gears-split", tmp_path / "split.pkl", "--out", tmp_path / "nowhere" / "split.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert "nowhere" in err
