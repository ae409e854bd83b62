"""Support sets, what is scored beside them, and what is said of a design: at the ends of every rule."""

import numpy as np
import pytest
from pair_data import little_pairs

from pertexp.config.errors import DataError
from pertexp.data.pairs.design import build_design
from pertexp.data.pairs.splits import Chromosome, Line, LineAndChromosome, Random

PAIRS = little_pairs()  # 3 lines × 5 chromosomes × 9 pairs


def design(split=None, support_size=4, seed=0, pairs=PAIRS):
    return build_design(pairs, split or LineAndChromosome(), gap=10, support_size=support_size, support_seed=seed)


def test_an_unseen_line_is_described_by_pairs_that_are_not_scored():
    of = design(Line())
    assert of.train_lines.tolist() == [1, 2]
    assert set(of.support("test")) == {0}
    support = of.support("test")[0]
    assert (len(support), support.tolist()) == (4, sorted(set(support)))
    assert set(support) <= set(of.index("test"))
    assert of.scored("test").tolist() == np.setdiff1d(of.index("test"), support).tolist()


def test_a_known_line_is_described_by_training_pairs_and_every_pair_is_scored():
    of = design(Line())
    for role in ("val", "train"):
        for number, rows in of.support(role).items():
            assert set(of.role[rows]) == {"train"}
            assert set(of.pairs.line[rows]) == {number}
    assert of.scored("val").tolist() == of.index("val").tolist()


def test_a_support_set_may_take_all_training_pairs_of_a_line_but_no_unseen_line_whole():
    trained = {number: int(((design(Line()).role == "train") & (PAIRS.line == number)).sum()) for number in (1, 2)}
    least = min(trained.values())
    assert {len(rows) for rows in design(Line(), support_size=least).support("train").values()} == {least}
    with pytest.raises(DataError, match=f"has {least} train pairs, too few for a support set of {least + 1}"):
        design(Line(), support_size=least + 1).support("train")
    tested = len(design(Line()).index("test"))
    assert len(design(Line(), support_size=tested - 1).scored("test")) == 1
    for size in (tested, tested + 1):
        with pytest.raises(
            DataError, match=f"Cell line L0 has {tested} test pairs, too few for a support set of {size}"
        ):
            design(Line(), support_size=size).support("test")


def test_draws_and_seeds_give_other_sets():
    drawn = [design(Line(), seed=seed).support("test", draw)[0].tolist() for seed in (0, 1) for draw in (0, 1)]
    assert len({str(one) for one in drawn}) == 4
    assert design(Line()).support("test")[0].tolist() == drawn[0]


def test_permuted_support_is_of_another_training_line_with_enough_pairs():
    of = design(Line())
    for role in ("test", "val"):
        for number, rows in of.permuted_support(role).items():
            assert len(set(rows)) == 4
            assert rows.tolist() == sorted(rows)
            assert set(of.role[rows]) == {"train"}
            (other,) = set(of.pairs.line[rows])
            assert other != number
    sizes = {number: int(((of.role == "train") & (PAIRS.line == number)).sum()) for number in (1, 2)}
    least = min(sizes.values())
    assert set(design(Line(), support_size=least).permuted_support("val")) == {1, 2}
    assert design(Line(), support_size=max(sizes.values()) + 1).permuted_support("val") == {}
    alone = design(Line(), pairs=little_pairs(n_lines=2))
    assert alone.permuted_support("val") == {}  # the only line that is trained on
    assert set(alone.permuted_support("test")) == {0}


def test_what_is_said_of_a_design():
    assert design(Chromosome()).notes == ()
    lost = design(LineAndChromosome())
    excluded = int((lost.role == "excluded").sum())
    assert lost.notes == (f"{excluded} of 135 pairs have no role in this fold ({lost.split.name})",)
    assert design(Random(val_fraction=0.0)).notes == (
        "elements of the test pairs are trained on: scores of this split show memory",
        "the split has no validation pairs",
    )
    record = lost.record()
    assert (record.pairs, record.fold, record.lines) == (135, 0, ["L0", "L1", "L2"])
    assert record.pairs_by_role["excluded"] == excluded
    assert sum(record.pairs_by_role.values()) == 135
    assert lost.schema()["train_lines"] == ["L1", "L2"]


def test_training_pairs_of_one_label_are_refused():
    one = PAIRS.take(np.flatnonzero((PAIRS.label == 1) | (PAIRS.line == 0)))
    with pytest.raises(DataError, match=r"All training pairs of fold 0 .* have the label 1: expected both"):
        design(Line(), pairs=one)
