"""Which control cells are held out: a share of each context, the same in all folds, told by the hash of the split."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_screen import OPTIONS, SIMULATOR, data

from pertexp.config.errors import DataError, RequestError
from pertexp.data.screens.control_split import ControlSplit
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.design import build_design, build_folds
from pertexp.data.screens.split_table import SplitTable
from pertexp.data.screens.splits import AtFold, NamedTest, UnseenPerturbation, UserTable, controls_of

HALF = ControlSplit()
ONE_CONTEXT = replace(SIMULATOR, n_contexts=1)


def with_controls(n):
    return SimulatedScreenData(name="simulated", simulator=replace(ONE_CONTEXT, n_controls=n), batch_size=64, **OPTIONS)


def split(**controls):
    return UnseenPerturbation(folds=4, val_fraction=0.3, controls=ControlSplit(**controls))


@pytest.mark.parametrize(
    ("share", "n_cells", "held_out"),
    [(0.5, 19, 0), (0.5, 20, 10), (0.5, 101, 50), (0.25, 100, 25), (0.0, 100, 0), (0.99, 20, 19)],
)
def test_a_share_is_held_out_where_there_are_enough(share, n_cells, held_out):
    controls = ControlSplit(held_out=share)
    assert controls.count(n_cells) == held_out
    mask = controls.cells(np.ones(n_cells, dtype=bool), np.zeros(n_cells, dtype=np.int64), ("a",))
    assert mask.sum() == held_out


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(
        RequestError, match=rf"data\.split\.controls\.held_out={share} is no share: type .* such as 0\.5"
    ):
        ControlSplit(held_out=share)


def test_the_draw_is_of_control_cells_alone_and_of_each_context_by_itself():
    control = np.array([True, False] * 60)
    context = np.repeat([0, 1], 60)
    held_out = HALF.cells(control, context, ("a", "b"))
    assert not held_out[~control].any()
    assert [held_out[context == code].sum() for code in (0, 1)] == [15, 15]
    alone = HALF.cells(control[60:], np.zeros(60, dtype=np.int64), ("b",))
    np.testing.assert_array_equal(alone, held_out[60:])
    assert not np.array_equal(held_out[:60], held_out[60:])
    other = ControlSplit(seed=1).cells(control, context, ("a", "b"))
    assert not np.array_equal(other, held_out)
    assert other.sum() == held_out.sum()


def test_all_folds_hold_out_the_same_cells():
    masks = [design.role == "held_out_control" for design in build_folds(data().read(), data())]
    assert len(masks) == 4
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    screen = data().read()
    counts = np.bincount(screen.context[masks[0]], minlength=2)
    of_all = np.bincount(screen.context[screen.perturbation == 0], minlength=2)
    np.testing.assert_array_equal(counts, of_all // 2)


def test_the_table_says_so_and_the_hash_covers_share_and_seed():
    first = build_design(data().read(), data()).split
    rows = first.table[first.table["perturbation"] == "control"]
    assert rows.groupby(["context", "fold"])["role"].apply(sorted).map(tuple).unique().tolist() == [
        ("control", "held_out_control")
    ]
    hashes = {build_design(data().read(), data(split=one)).split.hash
              for one in (split(), split(seed=1), split(held_out=0.4), split(held_out=0.0))}  # fmt: skip
    assert len(hashes) == 4
    assert first.hash in hashes
    assert replace(first, fold=1).hash == first.hash


def test_no_row_says_so_where_none_is_held_out():
    few = with_controls(19)
    for design in (build_design(few.read(), few), build_design(data().read(), data(split=split(held_out=0.0)))):
        assert "held_out_control" not in set(design.split.table["role"]) | set(design.role)


def test_few_controls_are_said(caplog):
    few = with_controls(49)
    assert build_design(few.read(), few).notes["few_controls"] == ["context1: 49"]
    assert "fewer than 50 control cells" in caplog.text
    caplog.clear()
    enough = with_controls(50)
    assert build_design(enough.read(), enough).notes["few_controls"] == []
    assert "control cells" not in caplog.text


def test_a_table_that_a_run_wrote_gives_its_split_back(tmp_path):
    written = build_design(data().read(), data()).split
    written.write(tmp_path / "split.csv")
    again = build_design(data().read(), data(split=UserTable(path=str(tmp_path / "split.csv")))).split
    pd.testing.assert_frame_equal(again.table, written.table)
    assert again.hash == written.hash


def test_a_perturbation_is_no_held_out_control():
    table = build_design(data().read(), data()).split.table.copy()
    table.loc[table["role"] == "train", "role"] = "held_out_control"
    with pytest.raises(DataError, match="has the role held_out_control in fold"):
        SplitTable(table).validate()


def test_every_builder_says_which_it_holds_out():
    assert controls_of(split(seed=3)).seed == 3
    assert controls_of(NamedTest(("A",), controls=ControlSplit(seed=4))).seed == 4
    assert controls_of(lambda units: SplitTable(units)) == HALF
    units = pd.DataFrame({"perturbation": ["control", *"ABCD"], "context": "k", "n_cells": 30})
    builders = [split(seed=3), AtFold(split(seed=3), 2), NamedTest(("A",), controls=ControlSplit(seed=3))]
    assert [one(units).controls.seed for one in builders] == [3, 3, 3]
