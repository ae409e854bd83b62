"""Pure batches: one line each, each with a support set, seeded, shared among processes, resumed in mid-epoch."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from pair_data import little_pairs

from pertexp.config.errors import DataError, RequestError
from pertexp.data.pairs.datamodule import PairData, SimulatedPairData
from pertexp.data.pairs.design import build_design
from pertexp.data.pairs.loader import PairLoader, Windows
from pertexp.data.pairs.sampler import CellBatchSampler, FixedSteps
from pertexp.data.pairs.simulator import SimulatedPairs
from pertexp.data.pairs.splits import Chromosome, LineAndChromosome
from pertexp.data.pairs.tokens import decode, encode, reverse_complement
from pertexp.training.checkpoints import EpochClock

SMALL = SimulatedPairs(n_lines=4, n_pairs=120, n_enhancers=69, n_promoters=69)


def sampler(counts=(50, 23, 31), share=0.5, **options):
    """Pairs 0, 1, 2, ... of lines with these numbers of pairs, a share of each positive."""
    line = np.repeat(np.arange(len(counts)), counts)
    label = np.concatenate([np.arange(n) < round(share * n) for n in counts]).astype(np.int64)
    options = {"batch_size": 8, "support_size": 5, "seed": 1, **options}
    return CellBatchSampler(np.arange(line.size), line, label, **options)


def in_epoch(of, epoch):
    of.set_epoch(epoch)
    return [[(pure.line, pure.rows.tolist(), pure.support.tolist()) for pure in step] for step in of]


def rows_of(steps):
    return [row for step in steps for _, rows, _ in step for row in rows]


counts = st.lists(st.integers(8, 40), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(counts, st.integers(1, 9), st.integers(0, 7), st.integers(1, 4), st.sampled_from([None, (0.45, 0.55)]))
def test_batches_are_pure_and_their_support_is_disjoint(counts, batch_size, support_size, n_lines, positives):
    n_lines = min(n_lines, len(counts))
    of = sampler(counts, batch_size=batch_size, support_size=support_size, lines_per_step=n_lines, positives=positives)
    line = np.repeat(np.arange(len(counts)), counts)
    steps = in_epoch(of, 3)
    assert len(steps) == len(of)
    for step in steps:
        assert len({number for number, _, _ in step}) == n_lines == len(step)
        for number, rows, support in step:
            assert set(line[rows + support]) == {number}
            assert len(set(support)) == len(support) == support_size
            assert set(rows).isdisjoint(support)
            assert 1 <= len(rows) <= batch_size
    if positives is None:
        assert set(rows_of(steps)) == set(range(sum(counts)))


def test_each_pair_once_an_epoch_where_one_line_makes_a_step():
    assert sorted(rows_of(in_epoch(sampler(), 0))) == list(range(104))


def test_several_lines_a_step_take_the_fewest_steps_and_repeat_small_lines_only():
    of = sampler((50, 16, 16), lines_per_step=2)
    steps = in_epoch(of, 0)
    assert len(steps) == 7  # the batches of the largest line, of 8 pairs: it meets no other line twice in one step
    seen = np.bincount(rows_of(steps), minlength=82)
    assert (seen[:50] == 1).all()
    assert seen.min() == 1
    assert {number for step in steps for number, _, _ in step} == {0, 1, 2}


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_positives_are_between_the_shares_asked_for(share):
    of = sampler((640, 700), share, batch_size=64, support_size=32, positives=(0.45, 0.55))
    found = []
    for step in in_epoch(of, 0):
        for number, rows, _ in step:
            first = 0 if number == 0 else 640
            n_positive = round(share * (640, 700)[number])
            positive = [row - first < n_positive for row in rows]
            assert len(rows) == 64
            found.append(sum(positive) / 64)
            if n_positive >= 35 and 640 - n_positive >= 35:
                assert len(set(rows)) == 64  # repeated only where a class is too small
    assert min(found) >= 0.45
    assert max(found) <= 0.55
    assert len(set(found)) > 2


def test_the_pools_of_a_class_are_used_up_before_they_are_refilled():
    of = sampler((200,), 0.5, batch_size=20, support_size=5, positives=(0.5, 0.5))
    assert sorted(rows_of(in_epoch(of, 0))) == list(range(200))


def test_the_order_is_that_of_seed_and_epoch_alone():
    of = sampler(lines_per_step=2)
    epochs = [in_epoch(of, epoch) for epoch in range(3)]
    assert len({str(epoch) for epoch in epochs}) == 3
    torch.manual_seed(9)
    np.random.seed(9)  # noqa: NPY002
    assert in_epoch(sampler(lines_per_step=2), 1) == epochs[1]
    assert in_epoch(sampler(lines_per_step=2, seed=2), 1) != epochs[1]


@settings(max_examples=40, deadline=None)
@given(counts, st.integers(1, 5), st.booleans())
def test_processes_get_disjoint_steps_that_cover_all(counts, world_size, train):
    def share(rank):
        options = {"batch_size": 4, "rank": rank, "world_size": world_size}
        if train:
            return sampler(counts, **options)
        line = np.repeat(np.arange(len(counts)), counts)
        return FixedSteps(np.arange(line.size), line, {n: np.empty(0, int) for n in range(len(counts))}, **options)

    shares = [in_epoch(share(rank), 2) for rank in range(world_size)]
    lengths = {len(share(rank)) for rank in range(world_size)} | {len(own) for own in shares}
    assert lengths == {-(-share(0).n_steps // world_size)}  # none has a step more than it must
    whole = in_epoch(sampler(counts, batch_size=4), 2) if train else None
    laid = [step for turn in zip(*shares, strict=True) for step in turn]
    n_steps = share(0).n_steps
    assert sorted(rows_of(laid[:n_steps])) == list(range(sum(counts)))  # each pair in one process, and only one
    assert laid[n_steps:] == laid[: len(laid) - n_steps]  # the rest of the division repeats the first
    assert whole is None or laid[:n_steps] == whole


@pytest.mark.parametrize("done", [0, 1, 5, 14])
def test_a_new_sampler_continues_where_the_old_one_stopped(done):
    whole = in_epoch(sampler(positives=(0.45, 0.55)), 2)
    killed = sampler(positives=(0.45, 0.55))
    killed.set_epoch(2)
    for _ in itertools.islice(killed, done):
        pass
    resumed = sampler(positives=(0.45, 0.55))
    resumed.load_state_dict(killed.state_dict())
    assert resumed.position == done
    after = [[(pure.line, pure.rows.tolist(), pure.support.tolist()) for pure in step] for step in resumed]
    assert after == (whole[done:] if done < len(whole) else whole)
    assert in_epoch(resumed, 3) == in_epoch(sampler(positives=(0.45, 0.55)), 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"support_size": 23}, "Cell line line 1 has 23 training pairs, too few for a support set of 23"),
        ({"lines_per_step": 4}, "there are 3 training lines"),
        ({"lines_per_step": 0}, "there are 3 training lines: type a number from 1 to 3"),
        ({"positives": (0.6, 0.4)}, "is no range of shares"),
        ({"positives": (0.0, 0.4)}, "is no range of shares"),
        ({"positives": (0.4, 1.0)}, "is no range of shares"),
        ({"positives": (0.45, 0.55), "share": 1.0}, "of one label alone"),
    ],
)
def test_samplers_that_cannot_be_made(options, said):
    with pytest.raises(RequestError, match=said):
        sampler(**options)


def test_samplers_at_the_ends_of_what_can_be_asked_for():
    of = sampler(support_size=22, lines_per_step=3, positives=(0.5, 0.5))
    assert of.sizes == {0: 8, 1: 1, 2: 8}
    assert {len(step) for step in in_epoch(of, 0)} == {3}


def spaced(pairs, windows=Windows(40, 80)):  # noqa: B008
    return build_design(pairs, Chromosome(), gap=windows.gap, support_size=4, support_seed=0)


def test_a_batch_is_what_its_pairs_are():
    design = spaced(little_pairs())
    pairs = design.pairs
    of = CellBatchSampler(
        design.index("train"), pairs.line, pairs.label, batch_size=8, support_size=4, lines_per_step=2
    )
    batch = next(iter(PairLoader(pairs, of, Windows(40, 80))))
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "enhancer": ((16, 40), torch.uint8),
        "promoter": ((16, 80), torch.uint8),
        "label": ((16,), torch.float32),
        **dict.fromkeys(("line", "pair", "group"), ((16,), torch.int64)),
        "support_enhancer": ((2, 4, 40), torch.uint8),
        "support_promoter": ((2, 4, 80), torch.uint8),
        "support_pair": ((2, 4), torch.int64),
        "support_line": ((2,), torch.int64),
    }
    rows = batch["pair"].numpy()
    assert batch["group"].tolist() == [0] * 8 + [1] * 8
    assert batch["label"].tolist() == pairs.label[rows].tolist()
    assert batch["line"].tolist() == pairs.line[rows].tolist() == np.repeat(batch["support_line"].numpy(), 8).tolist()
    for place, row in enumerate(rows):
        enhancer, promoter = (pairs.elements.store.element(side[row]) for side in (pairs.enhancer, pairs.promoter))
        assert batch["enhancer"][place].tolist() == enhancer[10:50].tolist()
        assert decode(batch["promoter"][place].numpy()) == "N" * 10 + decode(promoter) + "N" * 10
    support = pairs.enhancer[batch["support_pair"][1, 3]]
    assert batch["support_enhancer"][1, 3].tolist() == pairs.elements.store.element(support)[10:50].tolist()


def test_either_strand_and_any_crop_are_shown_and_resumed():
    design = spaced(little_pairs(), Windows(50, 60))
    pairs = design.pairs

    def loader():
        of = CellBatchSampler(design.index("train"), pairs.line, pairs.label, batch_size=8, support_size=4)
        return PairLoader(pairs, of, Windows(50, 60, random=True, both_strands=True), seed=3)

    whole = list(loader())
    strands, crops = set(), set()
    for batch in whole:
        for row, enhancer, promoter in zip(batch["pair"], batch["enhancer"], batch["promoter"], strict=True):
            own = pairs.elements.store.element(pairs.promoter[row])
            strands.add({own.tobytes(): 0, reverse_complement(own).tobytes(): 1}[promoter.numpy().tobytes()])
            text = decode(pairs.elements.store.element(pairs.enhancer[row]))
            seen = decode(enhancer.numpy())
            other = decode(reverse_complement(encode(seen)))
            crops.add(text.find(seen) if seen in text else text.find(other))
    assert strands == {0, 1}
    assert crops == set(range(11))
    killed, resumed = loader(), loader()
    next(iter(killed))
    resumed.load_state_dict(killed.state_dict())
    for one, other in zip(resumed, whole[1:], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)


def data(**options) -> PairData:
    options = {"enhancer_length": 200, "promoter_length": 200, "support_size": 4, "batch_size": 8, **options}
    return SimulatedPairData(name="simulated_pairs", split=LineAndChromosome(), simulator=SMALL, **options)


def test_a_design_names_lines_and_support_sets_that_are_not_scored():
    design = data().design
    test, support = design.index("test"), design.support("test")
    assert design.lines[0] == "line01"
    assert design.train_lines.tolist() == [1, 2, 3]
    assert set(support) == {0}
    assert set(support[0]) <= set(test)
    assert sorted([*design.scored("test"), *support[0]]) == test.tolist()
    assert np.array_equal(design.support("test")[0], data().design.support("test")[0])
    draws = {tuple(design.support("test", draw)[0]) for draw in range(5)}
    assert len(draws) > 1
    assert set(design.scored("test", 1)).isdisjoint(design.support("test", 1)[0])
    for number, rows in design.support("val").items():  # lines that were trained on are described by training pairs
        assert set(design.role[rows]) == {"train"}
        assert set(design.pairs.line[rows]) == {number}
    assert np.array_equal(design.scored("val"), design.index("val"))


def test_held_out_loaders_go_through_the_scored_pairs_in_their_order():
    of = data()
    for _ in range(2):
        batches = list(of.test_dataloader())
        assert torch.cat([batch["pair"] for batch in batches]).tolist() == of.design.scored("test").tolist()
        assert all(batch["support_pair"][0].tolist() == of.design.support("test")[0].tolist() for batch in batches)
    val = torch.cat([batch["pair"] for batch in of.val_dataloader()])
    assert val.tolist() == of.design.scored("val").tolist()
    assert all(len(set(batch["line"].tolist())) == 1 for batch in of.val_dataloader())


def test_without_support_sets_every_test_pair_is_scored():
    of = data(support_size=0)
    assert np.array_equal(of.design.scored("test"), of.design.index("test"))
    assert "support_enhancer" not in next(iter(of.train_dataloader()))
    assert "support_pair" not in next(iter(of.test_dataloader()))


def test_an_unseen_line_with_too_few_pairs_is_refused():
    with pytest.raises(DataError, match="too few for a support set of 30"):
        data(support_size=30).test_dataloader()


class Counts(LightningModule):
    """Keeps the pairs that it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []
        self.held: list[int] = []

    def training_step(self, batch, batch_idx):  # noqa: ARG002
        self.seen.append(batch["pair"].tolist())
        return self.weight * batch["label"].mean()

    def validation_step(self, batch, batch_idx):  # noqa: ARG002
        self.held += batch["pair"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_trains_on_it(tmp_path):
    of, model = data(positives=(0.45, 0.55), lines_per_step=3), Counts()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    Trainer(max_epochs=1, default_root_dir=tmp_path, num_sanity_val_steps=0, enable_model_summary=False, **quiet).fit(
        model, datamodule=of
    )
    role = of.design.role
    assert len(model.seen) == len(of.train_dataloader())
    assert {role[row] for rows in model.seen for row in rows} == {"train"}
    assert sorted(model.held) == of.design.index("val").tolist()


def test_a_killed_run_resumes_in_mid_epoch_with_the_batches_that_were_left(tmp_path):
    def fit(ckpt_path=None):
        model = Counts()
        keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        Trainer(
            max_epochs=2, callbacks=[EpochClock(), keep], num_sanity_val_steps=0, logger=False, accelerator="cpu",
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        ).fit(model, datamodule=data(positives=(0.45, 0.55)), ckpt_path=ckpt_path, weights_only=True)  # fmt: skip
        return model.seen

    whole = fit()
    killed_after = len(whole) // 2 + 3
    assert fit(tmp_path / f"step={killed_after}.ckpt") == whole[killed_after:]
    assert len({str(rows) for rows in whole}) == len(whole)


def test_without_pairs_there_is_no_step():
    nothing = np.array([], dtype=np.int64)
    empty = CellBatchSampler(nothing, nothing, nothing, batch_size=8, support_size=5, seed=1)
    assert empty.n_steps == len(empty) == 0
    assert list(empty) == []
