"""Splits of pairs: every pair has one role, no element stands on both sides, and the hash is the table."""

import hashlib
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_data import little_pairs

from pertexp.config.errors import DataError, RequestError
from pertexp.data.pairs.pairs import Elements
from pertexp.data.pairs.split_table import ROLES, TEST, touching
from pertexp.data.pairs.splits import HUMAN, Chromosome, Line, LineAndChromosome, PairsTable, Random, _whole_groups
from pertexp.data.pairs.tokens import TokenStore

PAIRS = little_pairs()
SHARED = little_pairs(shared=("chr1", "chr6"))


def places_of(pairs, rows):
    """Every base that these pairs lie on, by definition."""
    numbers = {*pairs.enhancer[rows].tolist(), *pairs.promoter[rows].tolist()}
    of = pairs.elements
    return {(of.chromosome[n], base) for n in numbers for base in range(of.start[n], of.end[n])}


def sides_meet(pairs, role):
    return [
        not places_of(pairs, role == one).isdisjoint(places_of(pairs, role == other))
        for one, other in (("test", "train"), ("test", "val"), ("val", "train"))
    ]


@pytest.mark.parametrize("pairs", [PAIRS, SHARED], ids=["apart", "shared"])
@pytest.mark.parametrize("builder", [LineAndChromosome(), Chromosome(), Line()], ids=lambda one: type(one).__name__)
def test_no_base_stands_on_both_sides_and_every_pair_has_one_role(pairs, builder):
    split = builder(pairs)
    for fold in split.folds:
        role = split.role(fold)
        assert set(role) <= set(ROLES)
        assert len(role) == len(pairs)
        assert sides_meet(pairs, role) == [False] * 3


def test_the_leak_test_sees_a_leak(caplog):
    """What the tests above assert is false where it should be: at random, and where shared elements are kept."""
    with caplog.at_level(logging.WARNING):
        assert sides_meet(PAIRS, Random()(PAIRS).role())[0]
        assert sides_meet(SHARED, Line(shared="keep")(SHARED).role())[0]
    assert [record.message.partition(" leaks")[0] for record in caplog.records] == [
        "data/split=random", "data.split.shared=keep",
    ]  # fmt: skip


def test_line_and_chromosome_is_what_its_name_says():
    split = LineAndChromosome()(PAIRS)
    assert len(split.folds) == len(PAIRS.lines) * len(HUMAN)
    bare = np.char.replace(PAIRS.chromosome, "chr", "")
    for fold in split.folds:
        line, chromosomes = divmod(fold, len(HUMAN))
        held = PAIRS.line == line
        on = np.isin(bare, HUMAN[chromosomes])
        val = np.isin(bare, HUMAN[(chromosomes + 1) % len(HUMAN)])
        expected = np.select([held & on, held | on, val], ["test", "excluded", "val"], "train")
        assert split.role(fold).tolist() == expected.tolist()
    tested = np.stack([split.role(fold) == "test" for fold in split.folds]).sum(axis=0)
    assert tested.tolist() == [1] * len(PAIRS)


def test_a_line_by_name_and_its_chromosome_fold():
    named = LineAndChromosome(line="L1", fold=2)(PAIRS)
    assert (named.fold, named.name) == (7, "L1, chromosomes 17 2 9 10 21")
    assert named.hash == LineAndChromosome(fold=7)(PAIRS).hash  # one table, another fold in use
    assert Line(line="L2")(PAIRS).name == "L2"


def test_a_held_out_line_excludes_what_it_shares_with_others_and_nothing_else():
    role = Line()(SHARED).role()
    shared = np.isin(SHARED.chromosome, ["chr1", "chr6"]) & (SHARED.line != 0)
    assert (role[SHARED.line == 0] == "test").all()
    assert (role == "excluded").tolist() == shared.tolist()
    with pytest.raises(DataError, match="has no train pair"):
        Line()(little_pairs(shared=tuple(np.unique(SHARED.chromosome))))


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_order_of_pairs_moves_neither_hash_nor_roles(random, which):
    builder = [LineAndChromosome(), Chromosome(), Line(seed=3), Random(seed=4)][which]
    order = list(range(len(PAIRS)))
    random.shuffle(order)
    moved = PAIRS.take(np.array(order))
    one, other = builder(PAIRS), builder(moved)
    assert one.hash == other.hash
    assert one.role()[order].tolist() == other.role().tolist()


def test_the_hash_is_that_of_the_written_text(tmp_path):
    split = Chromosome()(PAIRS)
    split.write(tmp_path / "split.csv")
    split.write(tmp_path / "split.parquet")
    assert hashlib.sha256((tmp_path / "split.csv").read_bytes()).hexdigest() == split.hash
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "split.parquet").astype(str), split.table.astype(str))
    assert Chromosome(fold=1)(PAIRS).hash == split.hash
    assert Random(seed=1)(PAIRS).hash != Random(seed=2)(PAIRS).hash


def test_random_tests_each_pair_once():
    split = Random(folds=4)(PAIRS)
    assert split.leaks
    assert ((split.codes == TEST).sum(axis=0) == 1).all()


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=12)
)
def test_touching_is_overlap_by_definition(drawn):
    start, length, inside, second = (np.array(column) for column in zip(*drawn, strict=True))
    names = np.array([f"e{number}" for number in range(len(drawn))])
    store = TokenStore.of(["A"] * len(drawn), names.tolist())
    elements = Elements(names, store, np.where(second, "chr2", "chr1"), start, start + length)
    expected = [any(i and s == o and a < b + m and b < a + n for b, m, i, o in drawn) for a, n, _, s in drawn]
    assert touching(elements, inside).tolist() == expected


def test_without_places_one_sequence_under_two_names_is_one_element():
    names = np.array(["one", "same", "other"])
    nowhere = np.full(3, -1)
    store = TokenStore.of(["ACGT", "acgt", "ACGA"], names.tolist())
    elements = Elements(names, store, np.full(3, ""), nowhere, nowhere)
    assert touching(elements, np.array([True, False, False])).tolist() == [True, True, False]


def table(tmp_path, frame):
    path = tmp_path / "split.csv"
    frame.to_csv(path, index=False)
    return str(path)


def by_chromosome(**roles):
    names = np.unique(PAIRS.chromosome)
    return pd.DataFrame({"chromosome": names, "role": [roles.get(name, "train") for name in names]})


def test_a_table_by_chromosome(tmp_path):
    split = PairsTable(table(tmp_path, by_chromosome(chr1="test", chr2="val")))(PAIRS)
    expected = np.select([PAIRS.chromosome == "chr1", PAIRS.chromosome == "chr2"], ["test", "val"], "train")
    assert split.role().tolist() == expected.tolist()


def test_a_table_by_pair_with_an_element_on_both_sides(tmp_path):
    units = PAIRS.units.drop(columns="chromosome").assign(role="train")
    units.loc[0, "role"] = "test"
    path = table(tmp_path, units)
    with pytest.raises(DataError, match="4 train pairs share an element"):
        PairsTable(path)(PAIRS)
    assert (PairsTable(path, shared="exclude")(PAIRS).role() == "excluded").sum() == 4
    assert PairsTable(path, shared="keep")(PAIRS).leaks


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.assign(role="trian"), "has the role 'trian'"),
        (lambda rows: rows.drop(columns="role"), "give role, and one or more of"),
        (lambda rows: rows.assign(chromosome="chr99").head(1), "'chr99', which no pair has"),
        (lambda rows: rows.iloc[1:], "has no row for 27 pairs"),
        (lambda rows: pd.concat([rows, rows.head(1)]), "names chr1 more than once in fold 0"),
        (lambda rows: rows.assign(fold=3), r"has folds \[3\]"),
        (lambda rows: rows.assign(fold="x"), "has fold 'x' in row 1"),
        (lambda rows: rows.assign(role="train"), "has no test pair"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        PairsTable(table(tmp_path, change(by_chromosome(chr1="test"))))(PAIRS)


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        (LineAndChromosome(line="L9"), "not among the 3 cell lines"),
        (LineAndChromosome(line="L1", fold=5), "chromosome folds 0 to 4"),
        (LineAndChromosome(line="L1", fold=-1), "chromosome folds 0 to 4"),
        (LineAndChromosome(fold=15), "folds 0 to 14"),
        (Chromosome(chromosomes=[["1"], ["2"], ["3"]]), "in no fold of data.split.chromosomes"),
        (Chromosome(chromosomes=[["1"], ["2"]]), "expected three or more"),
        (Chromosome(chromosomes=[["Y"], ["1"], ["2", "3", "6", "11"]]), r"fold 0|Fold 0"),
        (Line(line="L1", fold=2), "give one of them"),
        (Line(line="L1", fold=-1), "give one of them"),
        (Line(val_fraction=1.0), "is no share"),
        (Line(val_fraction=-1e-9), "is no share"),
        (Random(val_fraction=1.0), "is no share"),
        (Random(folds=1), "expected 2 to"),
        (Random(folds=len(PAIRS) + 1), "expected 2 to"),
    ],
)
def test_splits_that_cannot_be_made(builder, said):
    with pytest.raises(RequestError, match=said):
        builder(PAIRS)


def test_splits_at_the_ends_of_what_can_be_asked_for():
    thirds = [["1", "2"], ["3", "6"], ["11"]]
    kept = PAIRS.take(np.flatnonzero(np.isin(PAIRS.chromosome, ["chr1", "chr2", "chr3", "chr6", "chr11"])))
    assert Chromosome(chromosomes=thirds)(kept).folds == [0, 1, 2]
    assert Line(line="L1", fold=1, val_fraction=0.0)(PAIRS).fold == 1
    assert len(Random(folds=len(PAIRS), val_fraction=0.0)(PAIRS).folds) == len(PAIRS)


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_validation_of_a_held_out_line_takes_whole_chromosomes_up_to_its_share(fraction):
    """A chromosome is taken while half of it fits, and the last one never."""
    split = Line(val_fraction=fraction)(PAIRS)
    role, others = split.role(), PAIRS.line != 0
    parts = pd.DataFrame({"chromosome": PAIRS.chromosome[others], "val": role[others] == "val"})
    shares = parts.groupby("chromosome")["val"].mean()
    assert set(shares) == {0.0, 1.0}
    largest = parts.groupby("chromosome").size().max()
    assert abs((role[others] == "val").sum() - fraction * others.sum()) <= largest / 2 or shares.eq(0).sum() == 1


def test_one_line_cannot_be_held_out():
    for builder in (LineAndChromosome(), Line()):
        with pytest.raises(DataError, match="type data/split=chromosome"):
            builder(little_pairs(n_lines=1))


@pytest.mark.parametrize(("n_groups", "fraction", "drawn"), [(3, 0.5, 2), (3, 0.49, 1), (2, 0.25, 1), (2, 0.24, 0)])
def test_a_chromosome_is_drawn_while_exactly_half_of_it_fits(n_groups, fraction, drawn):
    names = np.unique(PAIRS.chromosome)[:n_groups]
    rows = np.concatenate([np.flatnonzero(PAIRS.chromosome == name)[:4] for name in names])
    assert rows.size == 4 * n_groups
    marked = _whole_groups(PAIRS.take(rows), np.ones(rows.size, dtype=bool), fraction, [0])
    held = [marked[PAIRS.chromosome[rows] == name] for name in names]
    assert all(own.all() or not own.any() for own in held)
    assert sum(own.any() for own in held) == drawn
