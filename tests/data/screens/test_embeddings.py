"""Embeddings: tables on disk, components of the training effects, and what a name without a row gets."""

import pickle
import re

import numpy as np
import pytest
import scipy.sparse as sp

from pertexp.config.errors import DataError, MismatchError
from pertexp.data.screens.embeddings import (
    Planted,
    TableFile,
    TrainingPca,
    gene_rows,
    perturbation_rows,
    table_of,
)
from pertexp.data.screens.screen import Screen
from pertexp.data.screens.simulator import SimulatedScreen

NAMES = ["A", "B", "C"]
VECTORS = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, -2.0]])
NO_EFFECTS = np.zeros((0, 4))


def screen(perturbations=("control", "A", "A+C", "B", "B+X"), genes=("A", "B", "C", "X")):
    return Screen(
        expression=sp.csr_matrix((1, len(genes)), dtype=np.float32),
        scale="counts",
        genes=np.array(genes),
        perturbations=perturbations,
        perturbation=np.zeros(1, dtype=np.int64),
        contexts=("all",),
        context=np.zeros(1, dtype=np.int64),
    )


def text(separator):
    lines = [separator.join(["gene", "x", "y"])]
    lines += [separator.join([name, *map(str, row)]) for name, row in zip(NAMES, VECTORS.tolist(), strict=True)]
    return "\n".join(lines) + "\n"


def table(folder, kind="csv", **options):
    path = folder / f"table.{kind}"
    if kind == "npz":
        np.savez(path, genes=np.array(NAMES), emb=VECTORS.astype(np.float16))
    else:
        path.write_text(text("\t" if kind == "tsv" else ","))
    return TableFile(path=str(path), **options)


@pytest.mark.parametrize("kind", ["csv", "tsv", "npz"])
def test_a_table_is_read(tmp_path, kind):
    read = table(tmp_path, kind).table(screen(), NO_EFFECTS)
    assert read.names.tolist() == NAMES
    assert read.vectors.dtype == np.float64
    assert np.array_equal(read.vectors, VECTORS)


def rows_of(source, of):
    return perturbation_rows(source, table_of(source, of, NO_EFFECTS), of)


def test_rows_have_length_one_and_rows_of_zeros_stay(tmp_path):
    (tmp_path / "zero.csv").write_text(text(",") + "X,0,0\n")
    rows, missing = gene_rows(TableFile(path=str(tmp_path / "zero.csv")), screen(), NO_EFFECTS)
    assert missing == []
    assert np.allclose(rows, [[0.6, 0.8], [1, 0], [0, -1], [0, 0]])
    raw, _ = gene_rows(TableFile(path=str(tmp_path / "zero.csv"), normalise=False), screen(), NO_EFFECTS)
    assert np.array_equal(raw[:3], VECTORS)


def test_a_combination_is_the_sum_of_its_members(tmp_path):
    rows, missing = rows_of(table(tmp_path), screen())
    assert missing == ["X"]
    assert np.allclose(rows, [[0, 0], [0.6, 0.8], [0.6, -0.2], [1, 0], [1, 0]])


def test_the_mean_row_for_names_without_one(tmp_path):
    rows, missing = gene_rows(table(tmp_path, fallback="mean", normalise=False), screen(), NO_EFFECTS)
    assert missing == ["X"]
    assert np.allclose(rows[3], VECTORS.mean(axis=0))


def test_names_without_a_row_are_refused_on_request(tmp_path):
    sentence = r"no row for 1 of 4 names \(for example X\).*data\.gene_embedding\.fallback=zero"
    with pytest.raises(DataError, match=sentence):
        gene_rows(table(tmp_path, fallback="refuse"), screen(), NO_EFFECTS)


def test_a_table_that_knows_nobody_is_said_aloud(tmp_path, caplog):
    rows, missing = gene_rows(table(tmp_path), screen(genes=("ENSG1", "ENSG2")), NO_EFFECTS)
    assert missing == ["ENSG1", "ENSG2"]
    assert not rows.any()
    assert "knows none of the 2 names" in caplog.text


def pickled(path):
    np.savez(path, genes=np.array([Trap()], dtype=object), emb=np.zeros((1, 2)))


class Trap:
    """Says so when it is unpickled."""

    sprung = False

    def __setstate__(self, state):
        Trap.sprung = True

    def __getstate__(self):
        return {"any": 1}


MALFORMED = {
    "pickled.npz": (pickled, "expected an .npz with arrays `genes` and `emb`"),
    "other.npz": (lambda path: np.savez(path, names=np.array(NAMES), emb=VECTORS), "`genes` and `emb`"),
    "lengths.npz": (
        lambda path: np.savez(path, genes=np.array(NAMES), emb=VECTORS[:2]),
        "3 names and vectors of shape",
    ),
    "flat.npz": (lambda path: np.savez(path, genes=np.array(NAMES), emb=VECTORS[:, 0]), "3 names and vectors of shape"),
    "text.npz": (lambda path: path.write_text(text(",")), "expected an .npz"),
    "empty.npz": (lambda path: path.write_bytes(b""), "expected an .npz"),
    "cut.npz": (lambda path: cut(path), "expected an .npz"),
    "array.npz": (lambda path: save_array(path), "expected an .npz"),
    "empty.csv": (lambda path: path.write_text(""), "expected a name in the first column"),
    "header.csv": (lambda path: path.write_text("gene,x,y\n"), "0 names and vectors of shape"),
    "words.csv": (lambda path: path.write_text("gene,x\nA,many\n"), "expected a name in the first column"),
    "ragged.csv": (lambda path: path.write_text("gene,x\nA,1\nB,1,2,3\n"), "expected a name in the first column"),
    "semicolons.csv": (lambda path: path.write_text(text(";")), "3 names and vectors of shape .*parted by commas"),
    "binary.csv": (lambda path: path.write_bytes(b"\x89HDF\xff\xfe\x00"), "expected"),
    "twice.csv": (lambda path: path.write_text(text(",") + "A,1,1\n"), "names a row twice"),
    "gap.tsv": (lambda path: path.write_text("gene\tx\ty\nA\t1\t\n"), "NaN or infinite"),
    "infinite.csv": (lambda path: path.write_text("gene,x\nA,inf\n"), "NaN or infinite"),
}


def cut(path):
    np.savez(path, genes=np.array(NAMES), emb=VECTORS)
    path.write_bytes(path.read_bytes()[:150])


def save_array(path):
    with path.open("wb") as file:
        np.save(file, VECTORS)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_table_is_one_message(tmp_path, name):
    write, sentence = MALFORMED[name]
    write(tmp_path / name)
    with pytest.raises(DataError) as fault:
        TableFile(path=str(tmp_path / name)).table(screen(), NO_EFFECTS)
    assert re.search(f"{re.escape(name)} .*{sentence}", str(fault.value))
    assert "\n" not in str(fault.value)


def test_pickled_names_are_never_unpickled(tmp_path):
    pickled(tmp_path / "pickled.npz")
    Trap.sprung = False
    with pytest.raises(DataError):
        TableFile(path=str(tmp_path / "pickled.npz")).table(screen(), NO_EFFECTS)
    assert not Trap.sprung
    pickle.loads(pickle.dumps(Trap()))
    assert Trap.sprung


def test_a_missing_table_says_what_to_type(tmp_path):
    with pytest.raises(DataError, match=r"no embedding file .*perturbation_embedding\.path="):
        TableFile(path=str(tmp_path / "no.csv")).table(screen(), NO_EFFECTS)


def test_components_are_those_of_the_effects():
    """Gene rows have the inner products of the centred effects; a planted rank is found."""
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 40))
    genes = screen(genes=tuple(f"G{number}" for number in range(40)))
    rows, missing = gene_rows(TrainingPca(dimensions=10), genes, effects)
    centred = effects - effects.mean(axis=0)
    assert missing == []
    assert rows.shape == (40, 3)
    assert np.allclose(rows @ rows.T, centred.T @ centred)
    two, _ = gene_rows(TrainingPca(dimensions=2), genes, effects)
    assert np.allclose(two, rows[:, :2])


def test_signs_of_components_do_not_depend_on_the_solver():
    effects = np.random.default_rng(1).normal(size=(8, 30))
    genes = screen(genes=tuple(f"G{number}" for number in range(30)))
    rows, _ = gene_rows(TrainingPca(dimensions=4), genes, effects)
    again, _ = gene_rows(TrainingPca(dimensions=4), genes, effects[::-1].copy())
    assert np.allclose(rows, again)
    assert (rows[np.abs(rows).argmax(axis=0), np.arange(4)] > 0).all()


@pytest.mark.parametrize("effects", [np.ones((1, 4)), np.ones((5, 4)), np.zeros((3, 4))])
def test_effects_without_components_are_refused(effects):
    with pytest.raises(MismatchError, match="data/gene_embedding=table"):
        TrainingPca().table(screen(), effects)


def test_planted_rows_are_the_truth():
    simulated = SimulatedScreen(
        n_genes=30, n_perturbations=6, n_combinations=2, cells_per_perturbation=5, n_controls=10
    )()
    rows, missing = gene_rows(Planted(of="genes"), simulated, NO_EFFECTS)
    assert missing == []
    assert np.array_equal(rows, simulated.truth.gene_embedding)
    targets, missing = rows_of(Planted(of="perturbations"), simulated)
    assert missing == []
    position = {name: row for row, name in enumerate(simulated.truth.target_names)}
    for row, name in zip(targets[1:], simulated.perturbations[1:], strict=True):
        assert np.allclose(row, sum(simulated.truth.target_embedding[position[part]] for part in name.split("+")))


def test_nothing_is_planted_in_real_data():
    with pytest.raises(MismatchError, match="data/gene_embedding=pca"):
        Planted(of="genes").table(screen(), NO_EFFECTS)


def test_a_gene_called_na_keeps_its_row(tmp_path):
    (tmp_path / "table.csv").write_text("name,x,y\nNA,1,2\n007,3,4\n")
    table = TableFile(path=str(tmp_path / "table.csv")).table(screen(), NO_EFFECTS)
    assert table.names.tolist() == ["NA", "007"]


@pytest.mark.parametrize(
    ("text", "sentence"), [("A1,0.5,-0.1\nB,0.3,0.2\n", "first line must name"), ("name,x\n,1\n", "row without a name")]
)
def test_a_table_without_header_or_names_is_refused(tmp_path, text, sentence):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=sentence):
        TableFile(path=str(tmp_path / "table.csv")).table(screen(), NO_EFFECTS)
