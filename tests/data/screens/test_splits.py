"""Splits: every unit has one role, nothing held out leaks, and the hash is the table."""

import csv
import hashlib
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pertexp.config.errors import DataError, RequestError
from pertexp.data.screens.screen import CONTROL, members
from pertexp.data.screens.split_table import COLUMNS, SplitTable
from pertexp.data.screens.splits import (
    Combination,
    DoubleHoldOut,
    LeaveContextOut,
    UnseenPerturbation,
    UserTable,
)

GENES = [f"G{number}" for number in range(9)]
CONTEXTS = ["k562", "A172", "T98G"]

names = st.sets(st.sampled_from(GENES), min_size=1, max_size=3).map(lambda genes: "+".join(sorted(genes)))
screens = st.sets(st.tuples(names, st.sampled_from(CONTEXTS)), min_size=8, max_size=40)
seeds = st.integers(0, 5)


def frame(pairs, controls=CONTEXTS):
    rows = sorted(pairs) + [(CONTROL, context) for context in controls]
    return pd.DataFrame(rows, columns=["perturbation", "context"]).assign(n_cells=range(10, 10 + len(rows)))


def grid(perturbations, contexts=("k562",)):
    return frame({(name, context) for name in perturbations for context in contexts}, contexts)


def attempt(builder, units):
    """A table, or a screen on which this split is rightly refused: then no example."""
    try:
        return builder(units)
    except DataError:
        assume(False)


def in_role(rows, *roles):
    return rows.loc[rows["role"].isin(roles), "perturbation"]


def genes_of(perturbations):
    return {gene for name in perturbations for gene in members(name)}


def seen_by_definition(rows):
    trained = genes_of(in_role(rows, "train"))
    return [
        sum(gene in trained for gene in members(row.perturbation)) if row.role == "test" else -1
        for row in rows.itertuples()
    ]


def every_builder(seed):
    return [
        UnseenPerturbation(folds=3, seed=seed),
        Combination(folds=2, seed=seed),
        Combination(folds=2, seen=1, seed=seed),
        LeaveContextOut(seed=seed),
        DoubleHoldOut(folds=2, seed=seed),
    ]


builders = st.builds(lambda seed, which: every_builder(seed)[which], seeds, st.integers(0, 4))


@given(screens, builders)
@settings(max_examples=60, deadline=None)
def test_each_unit_has_one_role_in_each_fold(pairs, builder):
    units = frame(pairs)
    split = attempt(builder, units)
    wanted = {(row.perturbation, row.context) for row in units.itertuples()}
    for fold in split.folds:
        rows = split.roles(fold)
        assert len(rows) == len(wanted)
        assert set(zip(rows["perturbation"], rows["context"], strict=True)) == wanted
        assert set(rows.loc[rows["perturbation"] == CONTROL, "role"]) == {"control"}
        assert "control" not in set(rows.loc[rows["perturbation"] != CONTROL, "role"])
        assert rows["seen"].tolist() == seen_by_definition(rows)


@pytest.mark.medium
@given(screens, builders, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_and_repetition_of_rows_change_nothing(pairs, builder, random):
    units = frame(pairs)
    order = [*range(len(units)), 0]
    random.shuffle(order)
    assert attempt(builder, units).hash == builder(units.iloc[order]).hash


@given(screens, seeds)
@settings(max_examples=60, deadline=None)
def test_unseen_perturbations_are_tested_once_and_unseen_in_every_form(pairs, seed):
    units = frame(pairs)
    split = attempt(UnseenPerturbation(folds=4, seed=seed), units)
    tested = split.table[split.table["role"] == "test"]
    perturbed = units[units["perturbation"] != CONTROL]
    assert sorted(zip(tested["perturbation"], tested["context"], strict=True)) == sorted(pairs)
    assert len(perturbed) == len(tested)
    for fold in split.folds:
        rows = split.roles(fold)
        single_tests = {name for name in in_role(rows, "test") if "+" not in name}
        single_vals = {name for name in in_role(rows, "val") if "+" not in name}
        assert single_tests.isdisjoint(genes_of(in_role(rows, "train", "val")))
        assert single_vals.isdisjoint(genes_of(in_role(rows, "train")))
        for name in set(in_role(rows, "excluded")):
            assert not (single_tests | single_vals).isdisjoint(members(name))
        assert rows[rows["perturbation"] != CONTROL].groupby("perturbation")["role"].nunique().max() == 1


def test_an_exact_small_case_of_the_leak_rule():
    units = grid(["A", "B", "C", "D", "A+B", "C+D"])
    split = UnseenPerturbation(folds=6, val_fraction=0.0)(units)
    for fold in split.folds:
        rows = split.roles(fold).set_index("perturbation")["role"]
        test = rows.index[rows == "test"].tolist()
        assert len(test) == 1
        expected = {name for name in ("A+B", "C+D") if test[0] in members(name)}
        assert set(rows.index[rows == "excluded"]) == expected


@pytest.mark.parametrize(
    ("count", "folds", "fraction", "expected"),
    [(20, 4, 0.25, 4), (8, 4, 0.01, 1), (8, 4, 0.0, 0), (4, 4, 0.1, 0), (5, 5, 0.01, 1), (5, 5, 0.99, 3)],
)
def test_the_number_of_validation_perturbations(count, folds, fraction, expected):
    units = grid([f"T{number:02d}" for number in range(count)])
    split = UnseenPerturbation(folds=folds, val_fraction=fraction)(units)
    assert [len(in_role(split.roles(fold), "val")) for fold in split.folds] == [expected] * folds


@pytest.mark.medium
@given(screens, seeds, st.sampled_from([0, 1, 2]))
@settings(max_examples=80, deadline=None)
def test_combinations_have_seen_exactly_what_was_asked(pairs, seed, seen):
    split = attempt(Combination(folds=2, seen=seen, seed=seed), frame(pairs))
    tested = split.table[split.table["role"] == "test"]
    assert set(tested["seen"]) == {seen}
    assert all(len(members(name)) > 1 for name in tested["perturbation"])
    assert not tested.duplicated(["perturbation", "context"]).any()


def test_hidden_members_exclude_their_units_and_nothing_else():
    units = grid(["A", "B", "C", "D", "E", "A+B", "C+D", "A+C"])
    split = Combination(folds=3, seen=0, val_fraction=0.0)(units)
    for fold in split.folds:
        rows = split.roles(fold)
        hidden = genes_of(in_role(rows, "test"))
        others = [name for name in rows["perturbation"] if name not in set(in_role(rows, "test"))]
        assert set(in_role(rows, "excluded")) == {name for name in others if hidden & set(members(name))}
        assert "E" in set(in_role(rows, "train"))


def test_one_hidden_member_leaves_the_other_single_in_training():
    rows = Combination(folds=2, seen=1, val_fraction=0.0)(grid(["A", "B", "C", "A+B", "A+C"])).roles()
    (test,) = in_role(rows, "test")
    train = set(in_role(rows, "train"))
    assert len(train & set(members(test))) == 1


@pytest.mark.medium
@given(screens, seeds)
@settings(max_examples=40, deadline=None)
def test_without_hiding_every_combination_is_tested_once_and_singles_train(pairs, seed):
    split = attempt(Combination(folds=2, seed=seed), frame(pairs))
    tested = split.table[split.table["role"] == "test"]
    units = sorted(zip(tested["perturbation"], tested["context"], strict=True))
    assert units == sorted(pair for pair in pairs if "+" in pair[0])
    singles = split.table[~split.table["perturbation"].str.contains("+", regex=False)]
    assert set(singles["role"]) <= {"train", "control"}
    assert "excluded" not in set(split.table["role"])


def test_combinations_need_combinations_and_a_known_seen():
    with pytest.raises(DataError, match=r"None of the 3 perturbations is a combination.*unseen_perturbation"):
        Combination()(grid(["A", "B", "C"]))
    with pytest.raises(RequestError, match=r"data\.split\.seen=3"):
        Combination(seen=3)(grid(["A", "B", "A+B"]))
    with pytest.raises(DataError, match="1 combinations with at least 2 members perturbed alone"):
        Combination(folds=2, seen=2)(grid(["A", "B", "A+B", "C+D", "E+F"]))


@pytest.mark.medium
@given(screens, seeds)
@settings(max_examples=40, deadline=None)
def test_a_left_out_context_is_tested_whole(pairs, seed):
    split = attempt(LeaveContextOut(seed=seed), frame(pairs))
    contexts = sorted({context for _, context in pairs})
    assert split.folds == list(range(len(contexts)))
    for fold, context in enumerate(contexts):
        rows = split.roles(fold)
        perturbed = rows[rows["perturbation"] != CONTROL]
        assert (perturbed.loc[perturbed["context"] == context, "role"] == "test").all()
        assert set(perturbed.loc[perturbed["context"] != context, "role"]) <= {"train", "val"}


def test_a_context_is_asked_for_by_name():
    units = grid(GENES, CONTEXTS)
    assert LeaveContextOut(context="T98G")(units).fold == 1
    assert set(LeaveContextOut(context="T98G")(units).roles().query("role == 'test'")["context"]) == {"T98G"}
    assert LeaveContextOut(context="T98G")(units).hash == LeaveContextOut(fold=2)(units).hash
    with pytest.raises(DataError, match=r"'T98'.*did you mean T98G"):
        LeaveContextOut(context="T98")(units)
    with pytest.raises(RequestError, match=r"is fold 1 and data\.split\.fold=2"):
        LeaveContextOut(context="T98G", fold=2)(units)


@pytest.mark.parametrize("builder", [LeaveContextOut(), DoubleHoldOut(folds=2)])
def test_one_context_cannot_be_left_out(builder):
    units = frame({("A", "k562"), ("B", "k562")}, CONTEXTS)
    with pytest.raises(DataError, match=r"have 1 \('k562'\).*data\.context_key="):
        builder(units)


@given(screens, seeds)
@settings(max_examples=40, deadline=None)
def test_double_hold_out_crosses_neither_context_nor_perturbation(pairs, seed):
    split = attempt(DoubleHoldOut(folds=2, seed=seed), frame(pairs))
    contexts = sorted({context for _, context in pairs})
    assert split.folds == list(range(2 * len(contexts)))
    tested = split.table[split.table["role"] == "test"]
    assert sorted(zip(tested["perturbation"], tested["context"], strict=True)) == sorted(pairs)
    for fold in split.folds:
        rows = split.roles(fold)
        held = contexts[fold // 2]
        fitted = rows[rows["role"].isin(["train", "val"])]
        test = set(in_role(rows, "test"))
        assert set(rows.loc[rows["role"] == "test", "context"]) == {held}
        assert held not in set(fitted["context"])
        assert test.isdisjoint(fitted["perturbation"])
        assert {name for name in test if "+" not in name}.isdisjoint(genes_of(fitted["perturbation"]))


def test_double_hold_out_deals_equal_contexts_equally():
    split = DoubleHoldOut(folds=3)(grid(GENES, CONTEXTS))
    tests = [set(in_role(split.roles(fold), "test")) for fold in split.folds]
    assert tests[0:3] == tests[3:6] == tests[6:9]
    assert set.union(*tests[0:3]) == set(GENES)


def test_seeds_differ_and_repeat():
    units = grid([f"T{number:02d}" for number in range(30)])
    hashes = {UnseenPerturbation(seed=seed)(units).hash for seed in range(5)}
    assert len(hashes) == 5
    assert UnseenPerturbation(seed=3)(units).hash in hashes


@pytest.mark.parametrize(
    ("builder", "sentence"),
    [
        (UnseenPerturbation(folds=5), r"at least 5 units.*3 perturbations: type data\.split\.folds=3"),
        (DoubleHoldOut(folds=4), r"at least 4 units.*in context 'A172': type data\.split\.folds=3"),
        (UnseenPerturbation(folds=1), r"folds=1 leaves nothing to train on"),
        (UnseenPerturbation(folds=2, val_fraction=1.0), r"val_fraction=1\.0 is no share"),
        (UnseenPerturbation(folds=2, val_fraction=-0.1), r"val_fraction=-0\.1 is no share"),
        (UnseenPerturbation(folds=3, fold=3), r"Fold 3 was asked for, the split has folds 0 to 2"),
    ],
)
def test_requests_that_do_not_fit(builder, sentence):
    with pytest.raises(RequestError, match=sentence):
        builder(grid(["A", "B", "C"], ["k562", "A172"]))


def test_units_without_their_columns():
    with pytest.raises(DataError, match="no column context"):
        UnseenPerturbation()(pd.DataFrame({"perturbation": ["A"], "n": [1]}))


# --- the table


def table(rows=(("A", "k", 0, "train", -1), ("B", "k", 0, "test", 0), (CONTROL, "k", 0, "control", -1))):
    return pd.DataFrame(list(rows), columns=COLUMNS)


def test_the_hash_is_that_of_the_sorted_csv():
    text = "perturbation,context,fold,role,seen\nA,k,0,train,-1\nB,k,0,test,0\ncontrol,k,0,control,-1\n"
    text += "controls,held_out=0.5,seed=0\n"
    assert SplitTable(table()).hash == hashlib.sha256(text.encode()).hexdigest()
    assert SplitTable(table(), fold=3).hash == SplitTable(table()).hash


@pytest.mark.medium
@given(st.permutations(range(40)), st.integers(0, 39), st.sampled_from(COLUMNS))
@settings(max_examples=60, deadline=None)
def test_the_hash_ignores_row_order_and_feels_every_change(order, row, column):
    whole = UnseenPerturbation(folds=4, val_fraction=0.3)(grid(GENES)).table
    shuffled = whole.iloc[order][COLUMNS[::-1]]
    assert SplitTable(shuffled).hash == SplitTable(whole).hash
    changed = whole.copy()
    value = changed.loc[row, column]
    changed.loc[row, column] = value + 7 if column in ("fold", "seen") else f"{value}x"
    assert SplitTable(changed).hash != SplitTable(whole).hash


def test_text_reads_back_with_the_csv_module_even_with_commas():
    split = SplitTable(table([('A,"x"', "k\n2", 0, "train", -1), ("B", "k", 0, "test", 0)]))
    rows = list(csv.reader(io.StringIO(split.text)))
    assert rows[0] == COLUMNS
    assert sorted(rows[1:]) == [['A,"x"', "k\n2", "0", "train", "-1"], ["B", "k", "0", "test", "0"]]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("A", "k", 0, "train", -1)], "Fold 0 of the split has no test unit"),
        ([("A", "k", 0, "test", 0)], "Fold 0 of the split has no train unit"),
        ([*table().values, ("C", "k", 1, "test", 0)], "Fold 1 of the split has no train unit"),
        (
            [*table().values, ("A", "k", 0, "test", 0)],
            r"A stands in 2 roles \(test and train\) in fold 0, context k",
        ),
        ([*table().values, ("A", "k", 0, "train", -1)], "A stands twice"),
        (
            [*table().values, ("C", "k", 0, "holdout", -1)],
            "role 'holdout': a role is one of train, val, test",
        ),
        ([*table().values, (CONTROL, "z", 0, "train", -1)], "controls would be split silently"),
        ([*table().values, (CONTROL, "z", 0, "test", 0)], "controls would be split silently"),
        ([*table().values, ("ctrl", "z", 0, "val", -1)], "controls would be split silently"),
        ([*table().values, ("C", "k", 0, "control", -1)], "Perturbation C has the role control"),
        (
            [*table().values, ("C+B", "k", 0, "test", 0), ("B+C", "k", 0, "test", 0)],
            r"B\+C and C\+B are one perturbation",
        ),
        ([*table().values, ("A+ctrl", "k", 0, "train", -1)], r"A and A\+ctrl are one perturbation"),
    ],
)
def test_a_table_that_is_no_split_is_refused(rows, sentence):
    with pytest.raises(DataError, match=sentence):
        SplitTable(table(rows)).validate()


def test_one_perturbation_in_two_contexts_or_folds_is_fine():
    rows = [(name, context, fold, "train", -1) for name in "AB" for context in "kz" for fold in (0, 1)]
    rows += [("C", "k", 0, "test", 0), ("C", "k", 1, "test", 0)]
    assert SplitTable(table(rows)).validate().folds == [0, 1]


def test_a_fold_that_does_not_exist():
    with pytest.raises(DataError, match=r"Fold 4 was asked for.*data\.split\.fold=0"):
        SplitTable(table()).roles(4)
    with pytest.raises(DataError, match="Fold 0 was asked for"):
        SplitTable(table([])).validate()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    units = grid([*GENES, "G0+G1", "G2+G3"], CONTEXTS)
    split = UnseenPerturbation(folds=3, fold=2)(units)
    path = tmp_path / f"split{suffix}"
    split.write(path)
    back = UserTable(str(path), fold=2)(units)
    assert back.hash == split.hash
    assert back.roles().equals(split.roles())
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "split.parquet"
    path.write_text("old")

    def break_off(self, to, **_):
        to.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", break_off)
    with pytest.raises(OSError, match="disk full"):
        SplitTable(table()).write(path)
    assert [found.read_text() for found in tmp_path.iterdir()] == ["old"]


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"\.csv or \.parquet"):
        SplitTable(table()).write(tmp_path / "split.xlsx")


# --- the user's own table


def user(tmp_path, text, name="own.csv", **options):
    path = tmp_path / name
    path.write_text(text)
    return UserTable(str(path), **options)


def test_a_user_table_is_read_as_sets_for_all_contexts(tmp_path):
    builder = user(tmp_path, "perturbation\trole\nA+ctrl\ttrain\nC+B\ttest\nB\tval\n", "own.tsv")
    rows = builder(grid(["A", "B", "B+C"], ["k562", "A172"])).roles()
    got = {(row.perturbation, row.context): row.role for row in rows.itertuples()}
    roles = {"A": "train", "B": "val", "B+C": "test", CONTROL: "control"}
    assert got == {(name, context): role for name, role in roles.items() for context in ("k562", "A172")}


def test_a_user_table_by_context_and_fold(tmp_path):
    text = "perturbation,context,fold,role\nA,x,0,train\nA,y,0,test\nA,x,1,test\nA,y,1,train\n"
    split = user(tmp_path, text, fold=1)(grid(["A"], ["x", "y"]))
    assert split.folds == [0, 1]
    assert split.roles().set_index(["perturbation", "context"])["role"].to_dict() == {
        ("A", "x"): "test",
        ("A", "y"): "train",
        (CONTROL, "x"): "control",
        (CONTROL, "y"): "control",
    }
    assert split.roles().query("role == 'test'")["seen"].tolist() == [1]


def test_units_without_a_row_are_refused_or_excluded(tmp_path):
    units = grid(["A", "B", "C"], ["x", "y"])
    text = "perturbation,role\nA,train\nB,test\n"
    with pytest.raises(DataError, match=r"no row for 2 units of the data \(C in x, C in y\).*missing=exclude"):
        user(tmp_path, text)(units)
    rows = user(tmp_path, text, missing="exclude")(units).roles()
    assert in_role(rows, "excluded").tolist() == ["C", "C"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("perturbation,role\nA,train\nB,test\nKLF2,test\n", r"1 units that are not in the data \(KLF2;"),
        ("perturbation,context,role\nA,x,train\nB,z,test\n", r"not in the data \(B in z;"),
        ("perturbation,role\nA,train\nB,test\nA+B,train\nB+A,train\n", r"A\+B and B\+A are one perturbation"),
        ("perturbation,role\nA,train\nA,test\n", r"A stands in 2 roles"),
        ("perturbation,role\nA,train\nB,tset\n", "role 'tset'"),
        ("perturbation,role\nA,train\nB,test\ncontrol,train\n", "controls would be split silently"),
        ("perturbation,role\nA,train\nB,train\n", "no test unit"),
        ("perturbation,fold\nA,0\n", "no column role"),
        ("perturbation,role\n", "no rows"),
        ("perturbation,role,fold\nA,train,0\nB,test,first\n", "fold 'first' in row 2"),
        ("", "cannot be read"),
    ],
)
def test_a_user_table_that_does_not_fit(tmp_path, text, sentence):
    with pytest.raises(DataError, match=sentence):
        user(tmp_path, text)(grid(["A", "B"], ["x"]))


def test_a_user_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        UserTable(str(tmp_path / "none.csv"))(grid(["A", "B"]))
    with pytest.raises(RequestError, match="no known kind"):
        UserTable(str(tmp_path / "none.xlsx"))(grid(["A", "B"]))
    with pytest.raises(DataError, match="Fold 1 was asked for"):
        user(tmp_path, "perturbation,role\nA,train\nB,test\n", fold=1)(grid(["A", "B"]))


def test_a_large_screen_splits(tmp_path):
    rng = np.random.default_rng(0)
    singles = [f"GENE{number:05d}" for number in range(900)]
    pairs = {"+".join(sorted(rng.choice(singles, 2, replace=False))) for _ in range(100)}
    split = UnseenPerturbation()(grid([*singles, *pairs], [f"line{number}" for number in range(5)]))
    assert len(split.table) == 5 * 5 * (900 + len(pairs) + 1)
