"""Batch layouts: what each choice of data/batches deals, to which models, and a graph that is one step an epoch."""

import numpy as np
import pytest
import torch
from command import TINY, command
from places import ROOT
from resuming import assert_same_end, interrupted, run
from small_screen import OPTIONS, SIMULATOR, data

from pertexp.config.errors import MismatchError
from pertexp.data.screens.batch_layouts import (
    CellBatches,
    Dealing,
    GraphBatches,
    MatchedControlBatches,
    PseudobulkBatches,
)
from pertexp.data.screens.datamodule import SimulatedScreenData

LAYOUTS = {layout.choice: layout for layout in (CellBatches, PseudobulkBatches, MatchedControlBatches, GraphBatches)}


@pytest.fixture(scope="module")
def design():
    return data().design


def dealt(layout, design, roles=("train", "control"), epoch=0, **dealing):
    loader = layout.loader(design, roles, Dealing(**{"batch_size": 16, "shuffle": True, **dealing}))
    loader.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize("choice", LAYOUTS)
def test_batches_hold_the_fields_that_their_layout_states(choice, design):
    layout = LAYOUTS[choice]()
    for roles in (("train", "control"), ("val",)):
        batches = dealt(layout, design, roles)
        assert batches
        assert {frozenset(batch) for batch in batches} == {layout.fields}
        assert len({len(tensor) for tensor in batches[0].values()}) == 1


@pytest.mark.parametrize("choice", ["cells", "pseudobulk", "matched_controls"])
def test_a_last_batch_is_left_out_of_training_alone_and_where_asked(choice, design):
    kept, dropped = (LAYOUTS[choice](drop_last=drop) for drop in (False, True))
    size = len(dealt(kept, design, batch_size=10**6)[0]["perturbation"]) - 1
    sizes = [[len(batch["perturbation"]) for batch in dealt(own, design, batch_size=size)] for own in (kept, dropped)]
    assert sizes == [[size, 1], [size]]
    fixed = [
        sum(len(b["perturbation"]) for b in dealt(layout, design, ("val",), shuffle=False, batch_size=7))
        for layout in (kept, dropped)
    ]
    assert fixed[0] == fixed[1]


def test_seed_and_process_reach_the_loader(design):
    layout = CellBatches()
    first, again, other = (dealt(layout, design, seed=seed)[0]["counts"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    shares = [sum(len(b["cells"]) for b in dealt(layout, design, rank=rank, world_size=2)) for rank in (0, 1)]
    assert shares[0] == shares[1] == -(-design.cells("train", "control").sum() // 2)


def test_matched_controls_are_control_cells_of_the_context(design):
    screen = design.screen
    for match, same in (("context", True), ("any", False)):
        batches = dealt(MatchedControlBatches(match=match), design, ("train",))
        rows, controls = (torch.cat([batch[name] for batch in batches]).numpy() for name in ("row", "control_row"))
        assert set(design.role[controls]) == {"control"}
        assert (screen.context[rows] == screen.context[controls]).all() == same
        held = torch.cat([batch["control"] for batch in batches]).numpy()
        assert np.array_equal(held, screen.expression[controls].toarray())


def test_control_cells_are_drawn_anew_in_training_where_asked(design):
    def partners(layout, epoch, shuffle=True):
        batches = dealt(layout, design, ("train",), epoch, shuffle=shuffle)
        rows, controls = (torch.cat([batch[name] for batch in batches]).tolist() for name in ("row", "control_row"))
        return dict(zip(rows, controls, strict=True))

    anew, once = MatchedControlBatches(), MatchedControlBatches(resample=False)
    assert partners(anew, 0) != partners(anew, 1)
    assert partners(once, 0) == partners(once, 1)
    assert partners(anew, 0, shuffle=False) == partners(anew, 1, shuffle=False)  # as validation needs it


def test_rows_are_made_once_for_all_roles_and_anew_for_another_design(design):
    layout = PseudobulkBatches()
    assert layout.rows(design)[0] is layout.rows(design)[0]
    other = data(split=OPTIONS["split"].__class__(folds=4, fold=1)).design
    assert layout.rows(other)[1].tolist() != layout.rows(design)[1].tolist()


def test_sums_of_logs_are_refused_with_the_design():
    logs = data(batches=PseudobulkBatches(), normalize=True)
    with pytest.raises(
        MismatchError, match=r"scale log1p: type data\.batches\.combine=mean as well, or data/batches=ce"
    ):
        _ = logs.design
    assert data(batches=PseudobulkBatches(combine="mean"), normalize=True).design is not None


# A graph


def profile_by_hand(design, perturbation, context):
    cells = (design.screen.perturbation == perturbation) & (design.screen.context == context)
    cells &= design.role != "held_out_control"
    counts = design.screen.expression[cells].toarray().astype(np.float64)
    return np.log1p(counts.sum(axis=0) / design.size_factor[cells].sum()), cells.sum()


@pytest.mark.parametrize("role", ["train", "val"])
def test_a_graph_is_one_batch_of_all_units(role, design):
    roles = ("train", "control") if role == "train" else ("val",)
    (batch,) = dealt(GraphBatches(), design, roles, batch_size=1)
    expected = design.units(role)
    assert batch["perturbation"].tolist() == expected.perturbation.tolist()
    assert batch["context"].tolist() == expected.context.tolist()
    assert (batch["perturbation"] != 0).all()
    for row, (perturbation, context) in enumerate(zip(expected.perturbation, expected.context, strict=True)):
        profile, cells = profile_by_hand(design, perturbation, context)
        control, _ = profile_by_hand(design, 0, context)
        np.testing.assert_allclose(batch["profile"][row], profile, rtol=1e-6)
        np.testing.assert_allclose(batch["control"][row], control, rtol=1e-6)
        assert batch["cells"][row] == cells
    assert {tensor.dtype for name, tensor in batch.items() if name in ("profile", "control", "cells")} == {
        torch.float32
    }


def test_a_graph_is_the_same_in_every_epoch_and_process(design):
    first = dealt(GraphBatches(), design)
    others = [*dealt(GraphBatches(), design, epoch=3), *dealt(GraphBatches(), design, rank=1, world_size=2)]
    assert len(others) == 2
    assert all(torch.equal(other[name], first[0][name]) for other in others for name in other)
    loader = GraphBatches().loader(design, ("train",), Dealing(batch_size=16, shuffle=True))
    assert len(loader) == 1
    assert dealt(GraphBatches(), design, ("nothing",)) == []


ONE_GRAPH = (
    f"hydra.searchpath=[file://{ROOT / 'tests' / 'conf'}]", "model=unit_stand_in", *TINY, "trainer.max_epochs=30",
    "optimizer.lr=0.3", "callbacks.early_stopping.patience=2", "+callbacks.diary._target_=killing.Diary",
    "scheduler=cosine",
)  # fmt: skip


@pytest.mark.medium
def test_one_step_an_epoch_is_trained_stopped_early_killed_and_resumed(outputs):
    whole, diary = run(*ONE_GRAPH)
    assert whole.code == 0, whole.err
    batches = [page for page in diary if page[0] == "batch"]
    assert [page[1:4] for page in batches] == [(epoch, 0, epoch) for epoch in range(len(batches))]
    assert len({page[4] for page in batches}) == 1
    assert 3 <= len(batches) < 30  # early stopping has seen every epoch
    best = torch.load(whole.folder / "checkpoints" / "best.ckpt", weights_only=True)
    losses = [page[2] for page in diary if page[0] == "validation_end"]
    assert best["epoch"] == int(np.argmin(losses))
    killed = interrupted(outputs, "validation_start", 2, *ONE_GRAPH)
    done, resumed = run(*ONE_GRAPH, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert done.code == 0, done.err
    assert len([page for page in resumed if page[0] == "batch"]) == len(batches) - 1
    assert resumed == diary[-len(resumed) :]
    assert_same_end(done.folder, whole.folder)


# What models ask for


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("model=nbglm", "data/batches=graph"), "data/batches=cells or data/batches=pseudobulk"),
        (("model=gears", "data/batches=cells"), "data/batches=matched_controls"),
        (("model=gears", "data/batches=graph"), "data/batches=matched_controls"),
    ],
)
def test_a_model_refuses_batches_that_it_cannot_be_trained_on(words, advice, outputs):
    refused = command(*TINY, *words)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"and those of {words[1]} do not: type {advice}." in refused.err
    assert refused.err.startswith(f"pertexp: {words[0]} is trained on batches that hold")
    assert not list(outputs.glob("runs/*/*"))


@pytest.mark.parametrize("advice", ["cells", "pseudobulk"])
def test_the_nbglm_takes_what_its_advice_names(advice):
    from small_nbglm import simulated

    from pertexp.losses.counts import nb
    from pertexp.models.nbglm import NBGLM

    NBGLM.from_data(simulated(LAYOUTS[advice]()), nb, torch.optim.AdamW)
    with pytest.raises(MismatchError, match="hold counts, log_size, phase, and those of data/batches=graph"):
        NBGLM.from_data(simulated(GraphBatches()), nb, torch.optim.AdamW)


def test_cells_are_the_default():
    plain = SimulatedScreenData(name="simulated", simulator=SIMULATOR, **OPTIONS)
    assert isinstance(plain.batches, CellBatches)
    assert plain.batches.drop_last is False


def test_a_process_that_is_told_nothing_is_the_only_one():
    assert (Dealing(batch_size=1, shuffle=False).rank, Dealing(batch_size=1, shuffle=False).world_size) == (0, 1)
