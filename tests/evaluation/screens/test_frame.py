"""The evaluation frame: what it refuses, pooling, and the way through a file."""

from dataclasses import fields, replace

import anndata
import numpy as np
import pytest

from pertexp.config.errors import DataError, RequestError
from pertexp.evaluation.screens.frame import EvaluationFrame, concatenate

GENES = ("A", "B", "C", "D", "E")


def frame(fold=0, seed=0, replicate=True):
    rng = np.random.default_rng(seed)
    perturbation = ("A", "B", "A+B", "X+Y")
    shape = (4, len(GENES))
    de_score = np.abs(rng.normal(size=shape))
    de_score[3] = np.nan
    return EvaluationFrame(
        perturbation=perturbation,
        context=("K562", "K562", "RPE1", "RPE1"),
        fold=np.full(4, fold),
        genes=GENES,
        scale="log1p of counts per median depth",
        truth=rng.normal(size=shape),
        control=rng.normal(size=shape),
        train_mean=rng.normal(size=shape),
        de_score=de_score,
        predictions={name: rng.normal(size=shape) for name in ("nbglm", "train_mean", "no_change")},
        seen=np.array([0, 0, 1, 0]),
        de_fdr=np.where(np.isnan(de_score), np.nan, 0.5),
        replicate=(rng.normal(size=shape), rng.normal(size=shape)) if replicate else None,
    )


def assert_equal(a, b):
    for part in fields(EvaluationFrame):
        left, right = getattr(a, part.name), getattr(b, part.name)
        if isinstance(left, dict):
            assert list(left) == list(right)
            left, right = list(left.values()), list(right.values())
        np.testing.assert_array_equal(left, right, err_msg=part.name)


@pytest.mark.parametrize("replicate", [True, False])
def test_a_file_gives_back_the_same_frame(tmp_path, replicate):
    original = frame(replicate=replicate)
    original.to_anndata("nbglm").write_h5ad(tmp_path / "frame.h5ad")
    read = EvaluationFrame.from_anndata(anndata.read_h5ad(tmp_path / "frame.h5ad"))
    assert_equal(read, original)
    assert list(read.predictions) == ["nbglm", "train_mean", "no_change"]


def test_a_frame_of_one_prediction_goes_through_a_file(tmp_path):
    alone = replace(frame(), predictions={"nbglm": frame().truth})
    alone.to_anndata("nbglm").write_h5ad(tmp_path / "frame.h5ad")
    assert_equal(EvaluationFrame.from_anndata(anndata.read_h5ad(tmp_path / "frame.h5ad")), alone)


def test_the_anndata_holds_the_prediction_and_plain_strings():
    adata = frame().to_anndata("train_mean")
    np.testing.assert_array_equal(adata.X, frame().predictions["train_mean"])
    assert tuple(adata.var_names) == GENES
    assert adata.obs_names.is_unique
    assert {type(value) for value in adata.uns.values()} == {str}
    assert {"baseline:nbglm", "baseline:no_change", "replicate_a_0", "truth"} <= set(adata.layers)


def test_a_foreign_anndata_is_refused_with_what_it_lacks():
    foreign = anndata.AnnData(np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"no evaluation frame.*obs\['perturbation'\].*layers\['truth'\]"):
        EvaluationFrame.from_anndata(foreign)


@pytest.mark.parametrize("layer", ["baseline:no_change", "replicate_b_0", "control"])
def test_a_file_that_lost_a_layer_is_refused(layer):
    adata = frame().to_anndata("nbglm")
    del adata.layers[layer]
    with pytest.raises(DataError, match=layer):
        EvaluationFrame.from_anndata(adata)


def test_unknown_predictions_are_named_back():
    with pytest.raises(RequestError, match="did you mean nbglm"):
        frame().to_anndata("nbgl")
    with pytest.raises(RequestError, match="did you mean replicate"):
        frame().scored("replicat")
    with pytest.raises(RequestError, match="replicate"):
        frame(replicate=False).scored("replicate")


WRONG = {
    "shape": ({"truth": np.zeros((4, 3))}, r"truth .*shape \(4, 3\); expected \(units, genes\) = \(4, 5\)"),
    "prediction shape": ({"predictions": {"m": np.zeros((3, 5))}}, r"prediction m .*\(3, 5\)"),
    "replicate shape": ({"replicate": (np.zeros((4, 5)), np.zeros((4, 4)))}, r"replicate_b_0 .*\(4, 4\)"),
    "nan": ({"control": np.full((4, 5), np.nan)}, "control .*NaN or infinite"),
    "inf": ({"predictions": {"m": np.full((4, 5), np.inf)}}, "prediction m .*NaN or infinite"),
    "text": ({"truth": [["a"] * 5] * 4}, "truth .*no dense table"),
    "stray nan": ({"de_score": np.where(np.eye(4, 5) > 0, np.nan, 1.0)}, "de_score .*single NaN"),
    "negative de": ({"de_score": np.full((4, 5), -1.0)}, "de_score .*negative"),
    "context": ({"context": ("K562",)}, "context .*1 entries; expected one per unit, 4"),
    "fold": ({"fold": np.zeros(4)}, "fold .*float64; expected one whole number"),
    "seen": ({"seen": np.array([2, 0, 0, 0])}, "seen of A is out of range"),
    "repeat": ({"perturbation": ("A", "A", "B", "C"), "seen": np.zeros(4, int)}, "'A'.* appears 2 times"),
    "order": ({"perturbation": ("A", "B", "B+A", "C")}, r"'B\+A' is not canonical; write 'A\+B'"),
    "control": ({"perturbation": ("A", "B", "control", "C")}, "'control' is no perturbation to score"),
    "half control": ({"perturbation": ("A", "B", "C+control", "D")}, "is no perturbation to score"),
    "empty": ({"perturbation": ()}, "is empty"),
    "genes": ({"genes": ("A", "A", "C", "D", "E")}, "gene A appears 2 times"),
    "no prediction": ({"predictions": {}}, "holds no prediction"),
    "reserved": ({"predictions": {"replicate": np.zeros((4, 5))}}, "'replicate' cannot name a prediction"),
    "reserved too": ({"predictions": {"truth": np.zeros((4, 5))}}, "'truth' cannot name a prediction"),
    "slash": ({"predictions": {"a/b": np.zeros((4, 5))}}, "'a/b' cannot name a prediction"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(case):
    change, sentence = WRONG[case]
    with pytest.raises(DataError, match=sentence):
        replace(frame(), **change)


def test_numbers_become_float64():
    single = replace(frame(), truth=frame().truth.astype(np.float32))
    assert single.truth.dtype == np.float64


def test_targets_are_the_members_that_are_measured():
    expected = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=bool)
    view = frame().scored("nbglm")
    np.testing.assert_array_equal(view.own_target, expected)
    np.testing.assert_array_equal(view.panel_target, [True, True, False, False, False])
    np.testing.assert_array_equal(view.context, [0, 0, 1, 1])


@pytest.mark.parametrize(("gene", "guide"), [("MARCHF8", "MARCH8"), ("MARCH8", "MARCHF8")])
def test_a_target_is_measured_under_a_former_symbol_too(gene, guide):
    names = {"genes": (gene, "B", "C", "D", "E"), "perturbation": (guide, "B", "C", "D"), "context": ("K562",) * 4}
    renamed = replace(frame(), **names, seen=np.zeros(4, dtype=int))
    np.testing.assert_array_equal(renamed.own_target[:, 0], [True, False, False, False])


def test_the_truth_is_a_prediction_that_stands_before_the_replicate():
    assert frame().models[-2:] == ("truth", "replicate")
    np.testing.assert_array_equal(frame().scored("truth").prediction, frame().truth)
    assert "truth" not in frame().predictions


def test_references_that_are_not_given_are_those_of_all_controls():
    view = frame().scored("nbglm")
    for name in ("held_out_control", "shared_control"):
        np.testing.assert_array_equal(getattr(view, name), frame().control)
    np.testing.assert_array_equal(view.shared_de_score, frame().de_score)


def test_true_effects_are_against_held_out_controls_where_there_are_any():
    held_out, shared = frame().control + 1.0, frame().control + 2.0
    held_out[2] = np.nan
    own = replace(frame(), held_out_control=held_out, shared_control=shared)
    view = own.scored("nbglm")
    np.testing.assert_array_equal(view.has_reference, [True, True, False, True])
    for row, reference in ((0, held_out), (2, shared)):
        observed, predicted = own.effects("nbglm", row)
        np.testing.assert_array_equal(observed, own.truth[row] - reference[row])
        np.testing.assert_array_equal(predicted, own.predictions["nbglm"][row] - own.control[row])
    with pytest.raises(DataError, match=r"held_out_control .*single NaN"):
        replace(own, held_out_control=np.where(np.eye(4, 5) > 0, np.nan, held_out))


def test_for_the_replicate_one_half_predicts_the_other():
    view = frame().scored("replicate")
    np.testing.assert_array_equal(view.prediction, frame().replicate[0][0])
    np.testing.assert_array_equal(view.truth, frame().replicate[1][0])
    np.testing.assert_array_equal(frame().scored("nbglm").truth, frame().truth)


def test_folds_are_pooled_on_the_predictions_they_share():
    second = frame(fold=1, seed=1)
    second = replace(second, predictions={"other": second.truth, **second.predictions})
    pooled = concatenate([frame(), second])
    assert pooled.n_units == 8
    assert list(pooled.predictions) == ["nbglm", "train_mean", "no_change"]
    np.testing.assert_array_equal(pooled.fold, [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(pooled.truth[4:], second.truth)
    np.testing.assert_array_equal(pooled.predictions["no_change"][4:], second.predictions["no_change"])
    np.testing.assert_array_equal(pooled.replicate[1][:, 4:], second.replicate[1])
    assert_equal(concatenate([frame()]), frame())


def test_a_replicate_that_one_fold_lacks_is_left_out():
    assert concatenate([frame(), frame(fold=1, replicate=False)]).replicate is None


def test_folds_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="no evaluation frame to concatenate"):
        concatenate([])
    with pytest.raises(DataError, match="appears 2 times"):
        concatenate([frame(), frame(seed=1)])
    with pytest.raises(DataError, match="differ in genes"):
        concatenate([frame(), replace(frame(fold=1), genes=GENES[::-1])])
    with pytest.raises(DataError, match="scales"):
        concatenate([frame(), replace(frame(fold=1), scale="counts")])
    with pytest.raises(DataError, match="holds no prediction"):
        concatenate([frame(), replace(frame(fold=1), predictions={"x": frame().truth})])
