"""Subsets of the training perturbations: nested, and nothing else of a split changes."""

from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest

from pertexp.config.errors import RequestError
from pertexp.data.screens.screen import CONTROL, members
from pertexp.data.screens.splits import (
    Combination,
    DoubleHoldOut,
    GearsSimulation,
    LeaveContextOut,
    UnseenPerturbation,
    UserTable,
)

GENES = [f"G{number:02d}" for number in range(24)]
NAMES = [*GENES, *(f"{one}+{other}" for one, other in pairwise(GENES))]
CONTEXTS = ("A172", "k562")
UNITS = pd.DataFrame(
    [(name, context) for name in [*NAMES, CONTROL] for context in CONTEXTS], columns=["perturbation", "context"]
)
SPLITS = {
    "unseen_perturbation": UnseenPerturbation(folds=3),
    "combination": Combination(folds=2),
    "leave_context_out": LeaveContextOut(),
    "double": DoubleHoldOut(folds=2),
    "gears_simulation": GearsSimulation(folds=2),
    "table": UserTable(path="split.csv"),
}


@pytest.fixture(params=SPLITS)
def split(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = UnseenPerturbation(folds=3, seed=5)(UNITS).table
    rows[rows["perturbation"] != CONTROL].drop(columns="seen").to_csv("split.csv", index=False)
    return SPLITS[request.param]


def trained(rows: pd.DataFrame) -> set[str]:
    return set(rows.loc[rows["role"] == "train", "perturbation"])


def test_a_smaller_number_keeps_some_of_those_of_a_larger_one(split):
    whole = split(UNITS)
    tables = {number: replace(split, n_train=number)(UNITS) for number in (1, 2, 5, 9, 1000)}
    for fold in whole.folds:
        everyone = trained(whole.roles(fold))
        kept = {number: trained(table.roles(fold)) for number, table in tables.items()}
        assert {number: len(names) for number, names in kept.items()} == {
            number: min(number, len(everyone)) for number in tables
        }
        assert kept[1] < kept[2] < kept[5] < kept[9] <= kept[1000] == everyone


def test_the_others_are_excluded_and_nothing_else_changes(split):
    whole, part = split(UNITS).table, replace(split, n_train=3)(UNITS).table
    keys = ["perturbation", "context", "fold"]
    assert whole[keys].equals(part[keys])
    moved = whole["role"] != part["role"]
    assert set(whole.loc[moved, "role"]) == {"train"}
    assert set(part.loc[moved, "role"]) == {"excluded"}
    for fold, rows in part.groupby("fold"):
        names = trained(rows)
        before = whole[whole["fold"] == fold]
        same = before["perturbation"].isin(names) & (before["role"] == "train")
        assert (rows.loc[same, "role"] == "train").all()  # in every context in which they trained
        genes = {gene for name in names for gene in members(name)}
        seen = [len(genes & set(members(name))) for name in rows.loc[rows["role"] == "test", "perturbation"]]
        assert rows.loc[rows["role"] == "test", "seen"].tolist() == seen


def test_the_hash_is_that_of_what_is_trained_on(split):
    hashes = {number: replace(split, n_train=number)(UNITS).hash for number in (2, 3, 1000, None)}
    assert hashes[1000] == hashes[None] == split(UNITS).hash
    assert len(set(hashes.values())) == 3


def test_neither_the_order_of_rows_nor_the_fold_in_use_changes_it(split):
    limited = replace(split, n_train=4)
    shuffled = UNITS.sample(frac=1, random_state=0)
    assert limited(shuffled).hash == limited(UNITS).hash == replace(limited, fold=1)(UNITS).hash
    assert replace(limited, fold=1)(UNITS).fold == 1


def test_folds_and_seeds_keep_others():
    """Of a split of the same roles for all seeds: what is drawn anew is the order."""
    table = LeaveContextOut(n_train=6, val_fraction=0.0)(UNITS)
    again = LeaveContextOut(n_train=6, val_fraction=0.0, seed=1)(UNITS)
    kept = [trained(one.roles(fold)) for one in (table, again) for fold in (0, 1)]
    assert len({frozenset(names) for names in kept}) == 4


def test_it_is_said_where_nothing_is_left_out(caplog):
    caplog.set_level("INFO")
    whole = UnseenPerturbation(folds=3)
    sizes = {len(trained(whole(UNITS).roles(fold))) for fold in range(3)}
    assert len(sizes) > 1
    for number in (5, min(sizes), max(sizes) - 1):
        replace(whole, n_train=number)(UNITS)
    assert "n_train" not in caplog.text
    UnseenPerturbation(folds=3, n_train=500)(UNITS)
    assert "data.split.n_train=500 keeps all training perturbations: no fold has more." in caplog.text


@pytest.mark.parametrize("number", [0, -3])
def test_no_number_is_refused(number):
    with pytest.raises(RequestError, match=rf"data\.split\.n_train={number}: type a number above 0, or null for all"):
        UnseenPerturbation(n_train=number)
