"""The simulation split: that of cell-gears where names are sorted, and its rules where they are not ours to choose."""

import numpy as np
import pandas as pd
import pytest
from frozen import read_golden

from pertexp.config.errors import RequestError
from pertexp.data.screens.screen import members
from pertexp.data.screens.splits import GearsSimulation


@pytest.fixture(scope="module")
def golden():
    return read_golden("gears")


def canonical(condition: str) -> str:
    return "+".join(sorted(set(condition.split("+")) - {"ctrl"})) or "control"


def units(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"perturbation": names, "context": "K562", "n_cells": 10})


@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_the_split_of_the_package(seed, golden):
    conditions = golden["split/conditions"].tolist()
    table = GearsSimulation(seed=seed, folds=1)(units([canonical(c) for c in conditions]))
    rows = table.table.set_index("perturbation")
    expected = dict(zip(map(canonical, conditions), golden[f"split/{seed}/role"], strict=True))
    expected["control"] = "control"
    assert rows["role"].to_dict() == expected
    for group, n_members, n_known in (
        ("unseen_single", 1, 0), ("combo_seen0", 2, 0), ("combo_seen1", 2, 1), ("combo_seen2", 2, 2),
    ):  # fmt: skip
        names = [canonical(c) for c in golden[f"split/{seed}/{group}"]]
        assert names or group == "combo_seen0"
        assert {len(members(name)) for name in names} <= {n_members}
        # A known gene may have gone to validation with all that it is in: then no training unit shows it.
        assert (rows.loc[names, "seen"] <= n_known).all()


def test_folds_are_draws_of_following_seeds(golden):
    names = [canonical(c) for c in golden["split/conditions"]]
    both = GearsSimulation(seed=1, folds=2, fold=1)(units(names))
    second = GearsSimulation(seed=2, folds=1)(units(names))
    pd.testing.assert_frame_equal(both.roles().drop(columns="fold"), second.roles().drop(columns="fold"))


def test_combinations_of_three_and_the_order_of_rows():
    rng = np.random.default_rng(0)
    genes = [f"G{n}" for n in range(12)]
    names = ["control", *genes, "G0+G1+G2", "G3+G4+G5", "G1+G6+G7", *(f"G{n}+G{n + 1}" for n in range(1, 9))]
    table = GearsSimulation()(units(names))
    assert table.hash == GearsSimulation()(units(rng.permutation(names).tolist())).hash
    for _, fold in table.table.groupby("fold"):
        trained = {g for name in fold.loc[fold["role"] == "train", "perturbation"] for g in members(name)}
        unseen = fold[(fold["role"] == "test") & (fold["perturbation"].map(lambda n: len(members(n))) == 1)]
        assert trained.isdisjoint(unseen["perturbation"])


FRACTIONS = ("train_gene_fraction", "seen2_train_fraction", "val_fraction")


@pytest.mark.parametrize("name", FRACTIONS)
@pytest.mark.parametrize("value", [-1e-9, 1 + 1e-9])
def test_a_fraction_that_is_none_is_refused(name, value):
    with pytest.raises(RequestError, match=rf"data\.split\.{name}={value} is no share"):
        GearsSimulation(**{name: value})(units(["control", "A", "B"]))


def test_no_draw_is_refused_and_one_is_enough():
    with pytest.raises(RequestError, match=r"data\.split\.folds=0"):
        GearsSimulation(folds=0)(units(["control", "A", "B"]))
    names = ["control", *(f"G{n}" for n in range(8))]
    split = GearsSimulation(folds=1, train_gene_fraction=0.5, seen2_train_fraction=0.0, val_fraction=0.0)(units(names))
    assert split.roles()["role"].value_counts().to_dict() == {"train": 4, "test": 4, "control": 1}
    split = GearsSimulation(folds=1, train_gene_fraction=0.5, seen2_train_fraction=1.0, val_fraction=0.25)(units(names))
    assert split.roles()["role"].value_counts().to_dict() == {"train": 3, "val": 1, "test": 4, "control": 1}
