"""Labels become sets: one perturbation, one name."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pertexp.config.errors import DataError, RequestError
from pertexp.data.screens.labels import _Grammar, canonical_name, parse_labels
from pertexp.data.screens.screen import CONTROL, members

GENES = ["A", "B", "KLF1", "MAP2K3", "HLA-A"]


def decoded(labels, control="ctrl", **options):
    names, codes = parse_labels(labels, control, **options)
    return [names[code] for code in codes]


def test_spellings_of_one_perturbation_are_one():
    labels = ["A", "A+ctrl", "ctrl+A", "A+A", "control+A+ctrl", "ctrl", "control", "ctrl+ctrl"]
    assert decoded(labels) == ["A"] * 5 + [CONTROL] * 3


def test_names_are_control_then_sorted_and_codes_are_int64():
    names, codes = parse_labels(["b", "a+Z", "Z+a", "ctrl", "C+a+b"], "ctrl")
    assert names == (CONTROL, "C+a+b", "Z+a", "b")
    assert codes.dtype == np.int64
    assert codes.tolist() == [3, 2, 2, 0, 1]


@given(st.lists(st.lists(st.sampled_from([*GENES, "ctrl", "NT"]), min_size=1, max_size=5), min_size=1, max_size=20))
def test_a_label_is_the_set_of_its_members(sets):
    got = decoded(["+".join(one) for one in sets] + ["NT"], "NT")
    assert [set(members(name)) for name in got[:-1]] == [set(one) - {"ctrl", "NT"} for one in sets]


@given(st.lists(st.sampled_from(GENES), min_size=2, max_size=4, unique=True))
def test_every_order_of_members_is_one_name(genes):
    names, _ = parse_labels(["+".join(order) for order in itertools.permutations(genes)] + ["ctrl"], "ctrl")
    assert names == (CONTROL, "+".join(sorted(genes)))


@given(st.permutations(["A", "B+A", "ctrl", "C", "ctrl", "A+C"]))
def test_cell_order_does_not_change_names(order):
    names, codes = parse_labels(order, "ctrl")
    assert names == (CONTROL, "A", "A+B", "A+C", "C")
    assert [names[code] for code in codes] == [canonical_name(label) for label in order]


def test_categorical_series_with_gaps_in_its_index():
    series = pd.Series(["A", "NT", "B"], index=[7, 3, 3], dtype="category")
    assert decoded(series, "NT") == ["A", CONTROL, "B"]


def test_several_controls_and_a_control_that_holds_the_separator():
    assert decoded(["neg+1", "GFP", "A+GFP", "A"], ["neg+1", "GFP"]) == [CONTROL, CONTROL, "A", "A"]


def test_another_separator_yields_the_same_names():
    assert decoded(["B|A", "A| ctrl", "ctrl"], separator="|") == ["A+B", "A", CONTROL]


def test_guides_fold_and_controls_with_guides_fold_too():
    labels = ["G_1", "G_2", "G_2+H_11", "NT_1", "NT_2", "H1"]
    assert decoded(labels, "NT", fold_guides="_[0-9]+$") == ["G", "G", "G+H", CONTROL, CONTROL, "H1"]
    assert decoded(["G_1", "control_1"], "control_1", fold_guides="_[0-9]+$") == ["G", CONTROL]


def test_without_folding_guides_stay_apart():
    assert decoded(["G_1", "G_2", "NT"], "NT") == ["G_1", "G_2", CONTROL]


def test_work_is_on_distinct_labels(monkeypatch):
    calls = []
    name = _Grammar.name
    monkeypatch.setattr(_Grammar, "name", lambda self, label: calls.append(label) or name(self, label))
    parse_labels(["A", "ctrl"] * 5000, "ctrl")
    assert sorted(calls) == ["A", "ctrl"]


def test_missing_control_names_the_nearest():
    with pytest.raises(DataError, match=r"'non-targetting'.*did you mean non-targeting.*data\.control"):
        parse_labels(["non-targeting", "A"], "non-targetting")


def test_one_missing_control_of_several_is_refused():
    with pytest.raises(DataError, match="'NT9'"):
        parse_labels(["NT1", "A"], ["NT1", "NT9"])
    with pytest.raises(DataError, match="Control label ''"):
        parse_labels(["NT1", "A"], [])


def test_a_control_only_beside_others_is_no_control():
    with pytest.raises(DataError, match="No cell is a control"):
        parse_labels(["A+ctrl", "B+ctrl"], "ctrl")


@pytest.mark.parametrize("blank", [None, float("nan"), "", "  "])
def test_blank_labels_are_counted_and_placed(blank):
    with pytest.raises(DataError, match=r"2 of 4 cells .*first rows: 1, 3"):
        parse_labels(pd.Series(["A", blank, "ctrl", blank]), "ctrl")
    with pytest.raises(DataError, match=r"first rows: 1\)"):
        parse_labels(pd.Series(["A", blank, "ctrl"], dtype="category"), "ctrl")


def test_no_cells():
    with pytest.raises(DataError, match="no rows"):
        parse_labels([], "ctrl")


def test_the_joiner_inside_a_member_is_refused():
    with pytest.raises(DataError, match=r"'A\+B\|C'.*member 'A\+B'"):
        parse_labels(["A+B|C", "ctrl"], "ctrl", separator="|")


def test_an_empty_member_is_refused():
    with pytest.raises(DataError, match=r"'A\+' has an empty member"):
        parse_labels(["A+", "ctrl"], "ctrl")


def test_a_pattern_that_empties_a_name_or_is_none():
    with pytest.raises(RequestError, match=r"leaves nothing of the label member 'G1'"):
        parse_labels(["G1", "ctrl"], "ctrl", fold_guides="[A-Z]*[0-9]+$")
    with pytest.raises(RequestError, match="no regular expression"):
        parse_labels(["G1", "ctrl"], "ctrl", fold_guides="(")
    with pytest.raises(RequestError, match=r"data\.separator is empty"):
        parse_labels(["G1", "ctrl"], "ctrl", separator="")


def test_guides_that_were_not_folded_and_combinations_that_were_not_split_are_pointed_out(caplog):
    parse_labels(["NT", "A_1", "A_2", "B_7"], "NT")
    assert "2 perturbations differ by a number alone (A_...)" in caplog.text
    caplog.clear()
    parse_labels(["NT", "A", "B", "A;B", "A;NT"], "NT")
    assert "2 labels look like combinations joined by ';'" in caplog.text
    caplog.clear()
    parse_labels(["NT", "A_1", "B_1", "C;D"], "NT")
    parse_labels(["NT", "A_1", "A_2"], "NT", fold_guides="_[0-9]+$")
    assert caplog.text == ""
