"""What is taken away from a model at inference, and nothing else; what is told of training pairs and support sets."""

import numpy as np
import pytest
import torch
from gc_model import GcModel
from pair_runs import SMALL, made
from sklearn.metrics import average_precision_score, roc_auc_score

from pertexp.data.pairs.tokens import UNKNOWN
from pertexp.evaluation.pairs.generalisation import line_mean, over_draws, over_roles
from pertexp.evaluation.pairs.masking import PERMUTED, masked_batches, unknown
from pertexp.evaluation.pairs.predictions import predicted
from pertexp.runs.schema import Generalisation, RoleScore


@pytest.fixture(scope="module")
def data():
    return made(*SMALL)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GcModel(None)


def test_a_masked_element_is_unknown_and_all_else_stays(data):
    batch = next(iter(data.loader("test")))
    before = {name: tensor.clone() for name, tensor in batch.items()}
    masked = unknown(batch, "promoter")
    assert (masked["promoter"] == UNKNOWN).all()
    assert masked["promoter"].shape == batch["promoter"].shape
    assert masked["promoter"].dtype == batch["promoter"].dtype
    for name in before:
        assert torch.equal(batch[name], before[name])
        assert name == "promoter" or torch.equal(masked[name], before[name])


def test_every_mask_shows_the_same_pairs(data):
    whole = torch.cat([batch["pair"] for batch in data.loader("test")])
    found = {name: list(batches) for name, batches in masked_batches(data)}
    assert list(found) == ["enhancer only", "promoter only", PERMUTED]
    for batches in found.values():
        assert torch.equal(torch.cat([batch["pair"] for batch in batches]), whole)


def test_a_foreign_support_set_is_of_another_training_line(data):
    design = data.design
    batches = dict(masked_batches(data))[PERMUTED]
    for batch in batches:
        support = batch["support_pair"].ravel().numpy()
        assert support.size == data.support_size
        assert set(design.role[support]) == {"train"}
        lines = set(design.pairs.line[support])
        assert len(lines) == 1
        assert lines.isdisjoint(batch["line"].tolist())
    assert design.permuted_support("test")[0].tolist() == design.permuted_support("test")[0].tolist()
    assert design.permuted_support("test")[0].tolist() != design.permuted_support("test", 1)[0].tolist()


def test_a_line_that_is_trained_on_gets_the_support_of_another():
    design = made(*SMALL, "data/split=chromosome").design
    permuted = design.permuted_support("test")
    assert sorted(permuted) == [0, 1, 2]
    for number, rows in permuted.items():
        assert number not in design.pairs.line[rows]


def test_without_support_or_another_line_there_is_nothing_to_permute():
    assert PERMUTED not in dict(masked_batches(made(*SMALL, "data.support_size=0")))
    alone = made(*SMALL, "data/split=chromosome", "data.simulator.n_lines=1")
    assert alone.design.permuted_support("test") == {}
    assert PERMUTED not in dict(masked_batches(alone))


def test_a_loader_of_some_rows(data):
    rows = data.design.scored("train")[::7]
    shown = torch.cat([batch["pair"] for batch in data.loader("train", rows=rows)])
    assert sorted(shown.tolist()) == rows.tolist()


def test_the_gap_is_told_on_pairs_of_every_role(data, model):
    scored = {role: predicted(model, data.loader(role), "m") for role in ("val", "test")}
    found = over_roles(model, data, scored, "m", n_train=50, seed=1)
    again = over_roles(model, data, scored, "m", n_train=50, seed=1)
    assert found == again
    assert found.train.n == 50
    everything = over_roles(model, data, scored, "m", n_train=10**6, seed=1)
    assert everything.train.n == data.design.scored("train").size
    rows, probability = predicted(model, data.loader("train"), "m")
    pairs = data.design.pairs
    lines = [pairs.line[rows] == number for number in np.unique(pairs.line[rows])]
    expected = np.mean([average_precision_score(pairs.label[rows[own]], probability[own]) for own in lines])
    assert everything.train.auprc == pytest.approx(expected, rel=1e-9)
    assert everything.train.prevalence == pytest.approx(np.mean([pairs.label[rows[own]].mean() for own in lines]))
    assert found.gap == found.train.auprc - found.test.auprc
    assert found.chance == found.train.prevalence - found.test.prevalence


def test_a_role_that_is_missing_is_missing():
    found = Generalisation(RoleScore(0.8, 0.5, 10), None, RoleScore(0.6, 0.4, 10))
    assert np.isnan([found.train_minus_val, found.val_minus_test]).all()
    assert (found.gap, found.chance) == pytest.approx((0.2, 0.1))
    assert Generalisation(None, None, found.test).chance is None
    whole = Generalisation(RoleScore(0.8, 0.5, 10), RoleScore(0.7, 0.5, 10), RoleScore(0.6, 0.4, 10))
    assert (whole.train_minus_val, whole.val_minus_test) == pytest.approx((0.1, 0.1))


def test_draws_score_what_each_draw_leaves(data, model):
    first = predicted(model, data.loader("test"), "m")
    draws = over_draws(model, data, first, "m", 3)
    pairs = data.design.pairs
    for draw, value in enumerate(draws.auroc.values):
        rows, probability = predicted(model, data.loader("test", draw), "m")
        assert rows.tolist() == data.design.scored("test", draw).tolist()
        assert value == pytest.approx(roc_auc_score(pairs.label[rows], probability))
    assert draws.n_draws == len(draws.auroc.values) == 3
    spread = draws.auprc
    assert spread.min == min(spread.values) < max(spread.values) == spread.max
    assert spread.sd == pytest.approx(np.std(spread.values, ddof=1))
    assert over_draws(model, made(*SMALL, "data.support_size=0"), first, "m", 3) is None


def test_lines_without_a_value_are_left_out_of_the_mean(data):
    rows = data.design.scored("train")
    one = rows[data.design.pairs.label[rows] == 1]
    assert np.isnan(line_mean(data.design, one, np.full(one.size, 0.5), "auprc"))
    assert np.isnan(line_mean(data.design, rows[:0], np.empty(0), "auprc"))
