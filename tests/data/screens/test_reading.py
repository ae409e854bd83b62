"""From a file to a screen: what is read, and one sentence for each thing that can be wrong with it."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from pertexp.config.errors import DataError, RequestError
from pertexp.data.screens.reading import H5adFile

LABELS = ["NT", "A_1", "A_2", "B_1", "NT", "A_1+B_1", "NT", "B_1"]
CELL_TYPES = ["k562", "k562", "A172", "A172", "A172", "k562", "k562", "A172"]
GENES = ["A", "B", "MYC"]
COUNTS = np.array(
    [[1, 0, 5], [2, 0, 0], [0, 3, 1], [1, 1, 1], [4, 0, 2], [0, 0, 7], [2, 2, 0], [9, 0, 1]], dtype=np.float32
)


def annotated(matrix=COUNTS, **obs):
    """A sound screen of eight cells and three genes; keyword arguments replace columns of obs."""
    columns = {
        "guide": LABELS,
        "cell_type": CELL_TYPES,
        "batch": list("xxyyxxyy"),
        "ncounts": np.arange(100.0, 900.0, 100.0),
        "phase": ["G1", "S", "G2M", "G1", "S", "G2M", "G1", "S"],
        **obs,
    }
    index = [f"cell{number}" for number in range(len(LABELS))]
    var = pd.DataFrame({"symbol": ["a", "b", "myc"]}, index=GENES)
    return AnnData(X=matrix, obs=pd.DataFrame(columns, index=index), var=var)


def stored(folder, adata):
    path = folder / "screen.h5ad"
    adata.write_h5ad(path)
    return path


def read(folder, adata, **options):
    options = {"perturbation_key": "guide", "control": "NT", **options}
    return H5adFile(path=str(stored(folder, adata)), **options).read()


def refused(fault):
    """The sentence of a refusal: one line, one sentence, no word of Python."""
    sentence = str(fault.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert len(re.findall(r"[.?!]\s+[A-Z]", sentence)) <= 1, sentence
    return sentence


def same(one, other):
    assert (one.expression != other.expression).nnz == 0
    assert np.array_equal(one.expression.indices, other.expression.indices)
    assert (one.perturbations, one.contexts, one.scale) == (other.perturbations, other.contexts, other.scale)
    for name in ("genes", "perturbation", "context", "depth"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def with_stored_zero(dense):
    """All entries stored, zeros among them."""
    rows, columns = np.indices(dense.shape)
    return sp.csr_matrix((dense.ravel(), (rows.ravel(), columns.ravel())), shape=dense.shape)


def test_a_screen_is_read(tmp_path):
    screen = read(tmp_path, annotated(), context_key="cell_type")
    assert screen.perturbations == ("control", "A_1", "A_1+B_1", "A_2", "B_1")
    assert screen.perturbation.tolist() == [0, 1, 3, 4, 0, 2, 0, 4]
    assert screen.contexts == ("A172", "k562")
    assert screen.context.tolist() == [1, 1, 0, 0, 0, 1, 1, 0]
    assert screen.genes.tolist() == GENES
    assert screen.expression.dtype == np.float32
    assert np.array_equal(screen.expression.toarray(), COUNTS)
    assert np.array_equal(screen.depth, COUNTS.sum(axis=1))
    assert screen.phase is None
    assert screen.provenance["cells_in_file"] == len(LABELS)
    assert re.fullmatch("[0-9a-f]{64}", screen.provenance["sha256"])


@pytest.mark.parametrize(
    "matrix",
    [
        sp.csr_matrix(COUNTS),
        sp.csc_matrix(COUNTS),
        sp.csr_array(COUNTS.astype(np.int64)),
        COUNTS.astype(np.int32),
        COUNTS.astype(np.float64),
        COUNTS.astype(np.uint16),
        with_stored_zero(COUNTS),
    ],
    ids=["csr", "csc", "csr_array int64", "int32", "float64", "uint16", "stored zero"],
)
def test_every_way_to_store_a_matrix_gives_the_same_screen(tmp_path, matrix):
    same(read(tmp_path, annotated(matrix)), read(tmp_path, annotated(COUNTS)))


def test_columns_may_be_strings_or_categories(tmp_path):
    adata = annotated(guide=pd.Categorical(LABELS), cell_type=pd.Categorical(CELL_TYPES, categories=["k562", "A172"]))
    same(read(tmp_path, adata, context_key="cell_type"), read(tmp_path, annotated(), context_key="cell_type"))


def test_several_context_columns_are_joined(tmp_path):
    screen = read(tmp_path, annotated(), context_key=["cell_type", "batch"])
    assert screen.contexts == ("A172/x", "A172/y", "k562/x", "k562/y")
    assert [screen.contexts[code] for code in screen.context[:3]] == ["k562/x", "k562/x", "A172/y"]


def test_symbols_layer_depth_and_phase_come_from_their_columns(tmp_path):
    adata = annotated(np.full_like(COUNTS, np.nan))
    adata.layers["raw"] = sp.csr_matrix(COUNTS)
    screen = read(tmp_path, adata, layer="raw", gene_symbol_key="symbol", depth_key="ncounts", phase_key="phase")
    assert screen.genes.tolist() == ["a", "b", "myc"]
    assert np.array_equal(screen.expression.toarray(), COUNTS)
    assert screen.depth.tolist() == list(range(100, 900, 100))
    assert screen.phase.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("wanted", [["k562"], "k562"])
def test_where_keeps_some_cells_and_names_what_they_carry(tmp_path, wanted):
    screen = read(tmp_path, annotated(), where={"cell_type": wanted}, context_key="cell_type")
    assert np.array_equal(screen.expression.toarray(), COUNTS[[0, 1, 5, 6]])
    assert screen.perturbations == ("control", "A_1", "A_1+B_1")
    assert screen.contexts == ("k562",)
    assert (screen.provenance["cells_in_file"], screen.provenance["cells_outside_where"]) == (8, 4)


def test_where_takes_numbers_and_several_columns(tmp_path):
    screen = read(tmp_path, annotated(plate=[1, 2, 1, 2, 1, 2, 1, 2]), where={"plate": 1, "batch": ["x"]})
    assert np.array_equal(screen.expression.toarray(), COUNTS[[0, 4]])


def test_guides_fold_to_genes(tmp_path):
    screen = read(tmp_path, annotated(), fold_guides="_[0-9]+$")
    assert screen.perturbations == ("control", "A", "A+B", "B")
    assert screen.perturbation.tolist() == [0, 1, 1, 3, 0, 2, 0, 3]


def test_separator(tmp_path):
    labels = [label.replace("+", "|") for label in LABELS]
    assert "A_1+B_1" in read(tmp_path, annotated(guide=labels), separator="|").perturbations


def test_log1p_has_no_depth_and_fold_changes_may_be_negative(tmp_path):
    assert read(tmp_path, annotated(np.log1p(COUNTS / 3)), scale="log1p").depth is None
    changes = read(tmp_path, annotated(COUNTS - 2), scale="log2fc")
    assert changes.depth is None
    assert changes.expression.min() == -2


def planted_log1p():
    """log1p(10⁴ y / L) of COUNTS in a whole transcriptome of depth L."""
    depth = np.arange(100.0, 900.0, 100.0)
    return np.log1p(1e4 * COUNTS / depth[:, None]), depth


def test_counts_are_recovered_on_request(tmp_path):
    logs, depth = planted_log1p()
    screen = read(tmp_path, annotated(logs), scale="log1p", recover_counts=True, depth_key="ncounts")
    divisor = np.array([np.gcd.reduce(row.astype(int)) for row in COUNTS])
    assert screen.scale == "counts"
    assert np.array_equal(screen.expression.toarray(), COUNTS / divisor[:, None])
    assert np.array_equal(screen.depth, depth)
    assert screen.provenance["counts_not_recoverable"] == 0
    assert read(tmp_path, annotated(logs), scale="log1p").scale == "log1p"


def test_cells_without_counts_are_left_out_and_reported(tmp_path, caplog):
    logs, _ = planted_log1p()
    logs[3] = [1.0, np.pi, np.e]
    screen = read(tmp_path, annotated(logs), scale="log1p", recover_counts=True)
    assert screen.n_cells == len(LABELS) - 1
    assert (screen.perturbation == np.delete(read(tmp_path, annotated()).perturbation, 3)).all()
    assert (screen.provenance["counts_recovered"], screen.provenance["counts_not_recoverable"]) == (7, 1)
    assert "could not be recovered for 1 of 8 cells" in caplog.text


def with_value(value, matrix=COUNTS):
    changed = matrix.astype(np.float64)
    changed[3, 1] = value
    return changed


def without_matrix():
    adata = annotated()
    adata.layers["raw"] = COUNTS
    adata.X = None
    return adata


def with_repeated_genes():
    adata = annotated()
    adata.var_names = ["A", "MYC", "MYC"]
    return adata


FAULTS = {
    "perturbation column": (
        annotated,
        {"perturbation_key": "guides"},
        "'guides'.*data.perturbation_key.*did you mean guide?",
    ),
    "context column": (annotated, {"context_key": "celltype"}, "'celltype'.*data.context_key.*did you mean cell_type?"),
    "second context column": (annotated, {"context_key": ["batch", "celltype"]}, "'celltype'.*did you mean cell_type?"),
    "depth column": (annotated, {"depth_key": "n_counts"}, "'n_counts'.*data.depth_key.*did you mean ncounts?"),
    "phase column": (annotated, {"phase_key": "Phase"}, "'Phase'.*data.phase_key.*did you mean phase?"),
    "symbol column": (
        annotated,
        {"gene_symbol_key": "symbols"},
        "'symbols'.*data.gene_symbol_key.*did you mean symbol?",
    ),
    "where column": (annotated, {"where": {"celltype": ["k562"]}}, "'celltype'.*data.where.*did you mean cell_type?"),
    "where value": (
        annotated,
        {"where": {"cell_type": ["K562"]}},
        "data.where.cell_type names 'K562'.*did you mean k562?",
    ),
    "where nothing": (annotated, {"where": {"cell_type": ["k562"], "guide": ["A_2"]}}, "no cell is left by data.where"),
    "layer": (lambda: with_layer("raw"), {"layer": "row"}, "no layer 'row'.*data.layer=row.*did you mean raw?"),
    "no layers": (annotated, {"layer": "raw"}, "no layer 'raw'"),
    "no X": (without_matrix, {}, "no X: name the matrix with data.layer=.*raw"),
    "control": (annotated, {"control": "ntc"}, "Control label 'ntc'.*data.control="),
    "fold changes without control": (
        annotated,
        {"scale": "log2fc", "control": "WT"},
        "no control row 'WT'.*data.control=",
    ),
    "missing label": (
        lambda: annotated(guide=[*LABELS[:-1], None]),
        {},
        "1 of 8 cells have an empty perturbation label",
    ),
    "missing context": (
        lambda: annotated(cell_type=[*CELL_TYPES[:-1], None]),
        {"context_key": "cell_type"},
        "data.context_key.*missing for 1 cells",
    ),
    "missing depth": (
        lambda: annotated(ncounts=[1.0] * 7 + [np.nan]),
        {"depth_key": "ncounts"},
        "data.depth_key.*not positive for 1 cells",
    ),
    "depth in words": (annotated, {"depth_key": "cell_type"}, "data.depth_key.*not positive for 8 cells"),
    "unknown phase": (
        lambda: annotated(phase=["M"] * 8),
        {"phase_key": "phase"},
        "holds 'M': expected only G1, S, G2M",
    ),
    "NaN": (lambda: annotated(with_value(np.nan)), {}, "X holds 1 NaN or infinite values.*data.layer="),
    "infinite": (lambda: annotated(with_value(np.inf)), {"scale": "log2fc"}, "X holds 1 NaN or infinite values"),
    "negative counts": (
        lambda: annotated(with_value(-1)),
        {},
        r"negative values \(smallest -1\).*data.scale=counts.*data.scale=log2fc",
    ),
    "negative logs": (
        lambda: annotated(with_value(-0.5, np.log1p(COUNTS))),
        {"scale": "log1p"},
        "negative values.*data.scale=log1p",
    ),
    "fractions": (lambda: annotated(with_value(0.5)), {}, r"fractions \(for example 0.5\).*data.scale=log1p"),
    "counts called logs": (annotated, {"scale": "log1p"}, "integers only.*data.scale=counts"),
    "logs too large": (
        lambda: annotated(with_value(30.5)),
        {"scale": "log1p"},
        "up to 30.5, too large for data.scale=log1p",
    ),
    "repeated genes": (with_repeated_genes, {}, "1 gene names stand more than once.*MYC.*data.gene_symbol_key="),
    "words for numbers": (lambda: annotated(COUNTS.astype(str)), {}, "X does not hold numbers"),
    "counts to recover": (annotated, {"recover_counts": True}, "data.scale=counts: type data.recover_counts=false"),
    "nothing to recover": (
        lambda: annotated(np.sqrt(np.arange(24.0) + 1).reshape(8, 3)),
        {"scale": "log1p", "recover_counts": True},
        "no cell's counts can be recovered.*data.layer=",
    ),
    "guides leave nothing": (annotated, {"fold_guides": "^.*$"}, "data.fold_guides"),
}


def with_layer(name):
    adata = annotated()
    adata.layers[name] = COUNTS
    return adata


@pytest.mark.parametrize(("adata", "options", "sentence"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_message(tmp_path, adata, options, sentence):
    with pytest.raises(RequestError) as fault:
        read(tmp_path, adata(), **options)
    assert re.search(sentence, refused(fault))


def damaged(folder, how):
    path = stored(folder, annotated())
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "head": whole[:600], "empty": b"", "text": b"gene,cell\n"}[how])
    return path


@pytest.mark.parametrize("how", ["half", "head", "empty", "text"])
def test_a_damaged_file_is_one_message(tmp_path, how):
    path = damaged(tmp_path, how)
    with pytest.raises(DataError) as fault:
        H5adFile(path=str(path), perturbation_key="guide", control="NT").read()
    assert re.search(f"{re.escape(str(path))} cannot be read as .h5ad.*truncated", refused(fault))


def test_a_foreign_hdf5_file_is_one_message(tmp_path):
    import h5py

    path = tmp_path / "foreign.h5ad"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)
    with pytest.raises(DataError, match=r"foreign\.h5ad"):
        H5adFile(path=str(path), perturbation_key="guide", control="NT").read()


@pytest.mark.parametrize("part", [np.s_[:0], np.s_[:, :0]])
def test_an_empty_screen_is_one_message(tmp_path, part):
    with pytest.raises(DataError) as fault:
        read(tmp_path, annotated()[part].copy())
    assert re.search("is empty .* expected at least one of each", refused(fault))


@pytest.mark.parametrize(("expected", "hint"), [(None, "type data.path="), ("get it there", "get it there")])
def test_a_missing_file_says_what_to_get(tmp_path, expected, hint):
    with pytest.raises(DataError) as fault:
        H5adFile(path=str(tmp_path / "no.h5ad"), perturbation_key="guide", control="NT", expected=expected).read()
    assert re.search(f"no file .*no.h5ad: {hint}", refused(fault))


def test_contexts_that_a_joint_name_would_merge_are_refused(tmp_path):
    from anndata import AnnData

    obs = pd.DataFrame({"p": ["NT", "NT", "A", "A"], "x": ["a/b", "a"] * 2, "y": ["c", "b/c"] * 2}, index=list("1234"))
    AnnData(np.ones((4, 2), dtype=np.float32), obs=obs).write_h5ad(tmp_path / "s.h5ad")
    with pytest.raises(DataError, match="no longer distinct"):
        H5adFile(path=str(tmp_path / "s.h5ad"), perturbation_key="p", control="NT", context_key=["x", "y"]).read()
