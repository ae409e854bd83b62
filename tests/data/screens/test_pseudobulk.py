"""Pseudo-bulk rows against a plain loop over groups, and loaders over the roles of a design."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_screen import OPTIONS, SIMULATOR, data

from pertexp.config.errors import MismatchError
from pertexp.data.screens.batch_layouts import CellBatches, PseudobulkBatches
from pertexp.data.screens.design import DesignOptions, build_design
from pertexp.data.screens.pseudobulk import cell_rows, pseudobulk_rows
from pertexp.data.screens.splits import UnseenPerturbation


@pytest.fixture(scope="module")
def design():
    simulated = replace(SIMULATOR(), truth=None)
    phase = np.random.default_rng(0).integers(0, 3, simulated.n_cells)
    return build_design(replace(simulated, phase=phase), DesignOptions(**OPTIONS))


def groups_by_hand(design):
    screen, groups = design.screen, {}
    held_out = design.role == "held_out_control"
    for cell, key in enumerate(zip(screen.perturbation, screen.context, screen.phase, held_out, strict=True)):
        groups.setdefault(tuple(int(part) for part in key), []).append(cell)
    return groups


def key_of(rows, row, role):
    held_out = role[row] == "held_out_control"
    return int(rows.perturbation[row]), int(rows.context[row]), int(rows.phase[row]), int(held_out)


@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_rows_are_those_of_a_loop(design, kind):
    rows, role = pseudobulk_rows(design, kind)
    groups = groups_by_hand(design)
    dense, combine = design.screen.expression.toarray().astype(np.float64), getattr(np, kind)
    assert len(rows) == len(groups) == len(role)
    assert {key_of(rows, row, role) for row in range(len(rows))} == set(groups)
    for row in range(len(rows)):
        cells = groups[key_of(rows, row, role)]
        assert np.allclose(rows.counts[row].toarray(), combine(dense[cells], axis=0), rtol=1e-6)
        assert np.isclose(rows.log_size[row], np.log(combine(design.size_factor[cells])), rtol=1e-5, atol=1e-6)
        assert rows.cells[row] == (len(cells) if kind == "sum" else 1)
        assert {role[row]} == set(design.role[cells])


def test_sums_are_whole_and_nothing_is_lost(design):
    rows, _ = pseudobulk_rows(design, "sum")
    assert np.array_equal(rows.counts.data, np.rint(rows.counts.data))
    assert rows.counts.sum() == design.screen.expression.sum()
    assert rows.cells.sum() == design.screen.n_cells
    assert (rows.counts.dtype, rows.log_size.dtype, rows.perturbation.dtype) == (np.float32, np.float32, np.int64)


def test_without_phases_a_group_is_a_unit(design):
    plain = replace(design, screen=replace(design.screen, phase=None))
    rows, role = pseudobulk_rows(plain, "sum")
    assert len(rows) == len(units_of(design.screen.perturbation, design.screen.context)) + 2
    assert not rows.phase.any()
    assert [(role == name).sum() for name in ("control", "held_out_control")] == [2, 2]


def test_sums_of_logs_are_refused():
    logs = build_design(replace(SIMULATOR(), truth=None), DesignOptions(**OPTIONS, normalize=True))
    with pytest.raises(MismatchError, match=r"scale log1p: type data\.batches\.combine=mean"):
        pseudobulk_rows(logs, "sum")
    rows, _ = pseudobulk_rows(logs, "mean")
    first = (logs.role == "control") & (logs.screen.context == rows.context[0])
    assert np.allclose(rows.counts[0].toarray(), logs.screen.expression[first].mean(axis=0), rtol=1e-6)
    assert not rows.log_size.any()


def test_a_row_a_cell(design):
    rows = cell_rows(design)
    assert len(rows) == design.screen.n_cells
    assert np.allclose(np.exp(rows.log_size), design.size_factor, rtol=1e-6)
    assert (rows.cells == 1).all()
    assert np.array_equal(rows.phase, design.screen.phase)


def met(loader):
    """The units of all rows of one epoch, and how many rows there are."""
    batches = list(loader)
    perturbation, context = (torch.cat([batch[name] for batch in batches]) for name in ("perturbation", "context"))
    return units_of(perturbation, context), len(perturbation)


def units_of(perturbation, context):
    return set(zip(perturbation.tolist(), context.tolist(), strict=True))


@pytest.mark.parametrize("combine", [None, "sum", "mean"])
def test_loaders_hold_the_rows_of_their_roles(combine):
    of = data(batches=CellBatches() if combine is None else PseudobulkBatches(combine=combine))
    of.setup("fit")
    design = of.design
    for loader, roles in ((of.train_dataloader(), ("train", "control")), (of.val_dataloader(), ("val",))):
        cells = design.cells(*roles)
        expected = units_of(design.screen.perturbation[cells], design.screen.context[cells])
        assert met(loader) == (expected, cells.sum() if combine is None else len(expected))


def test_training_cells_come_with_their_own_counts():
    of = data(batch_size=1000)
    batch = next(iter(of.train_dataloader())) if of.design else {}
    cells = of.design.cells("train", "control")
    ours = of.design.screen.expression[cells].toarray()
    assert np.array_equal(np.sort(batch["counts"].numpy(), axis=0), np.sort(ours, axis=0))
    assert batch["counts"].sum(dim=1).tolist() != ours.sum(axis=1).tolist()  # shuffled


def test_without_validation_units_there_is_no_loader():
    of = data(split=UnseenPerturbation(folds=4, val_fraction=0.0))
    assert not of.has_validation
    assert of.val_dataloader() == []


def test_the_design_is_built_once():
    of = data()
    assert of.design is of.design


def test_loaders_follow_their_seed():
    first, again, other = (next(iter(built(seed).train_dataloader()))["counts"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def built(seed):
    of = data(loader_seed=seed)
    of.setup("fit")
    return of
