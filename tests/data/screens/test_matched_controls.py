"""Every perturbed cell has a control cell of its own context, drawn anew each epoch and never lost."""

import numpy as np
import pytest
import scipy.sparse as sp

from pertexp.data.screens.batches import Rows
from pertexp.data.screens.matched_controls import PairedLoader

N = 60


def loader(**options) -> PairedLoader:
    """Rows whose first gene is their own number; every third is a control, the last of which may not be drawn."""
    number = np.arange(N)
    rows = Rows(
        counts=sp.csr_matrix(np.stack([number, number % 2], axis=1).astype(np.float32)),
        perturbation=np.where(number % 3 == 0, 0, 1 + number % 4),
        context=number % 2,
        phase=np.zeros(N, dtype=np.int64),
        log_size=np.zeros(N, dtype=np.float32),
        cells=np.ones(N, dtype=np.float32),
    )
    chosen = {
        "match": "context",
        "resample": True,
        "shuffle": True,
        "controls": number[(number % 3 == 0) & (number < 57)],
    }
    return PairedLoader(rows, number, 7, **{**chosen, **options})


def pairs(of: PairedLoader, epoch: int) -> dict[int, int]:
    of.set_epoch(epoch)
    found = {}
    for batch in of:
        assert (batch["control"][:, 0].long() == batch["control_row"]).all()
        assert (batch["counts"][:, 0].long() == batch["row"]).all()
        found |= dict(zip(batch["row"].tolist(), batch["control_row"].tolist(), strict=True))
    return found


def test_controls_are_their_own_and_others_get_one_of_their_context():
    for row, control in pairs(loader(), 3).items():
        if row % 3 == 0:
            assert control == row
        else:
            assert control % 3 == 0
            assert control % 2 == row % 2
            assert control < 57


def test_of_any_context_where_asked():
    found = pairs(loader(match="any"), 0)
    assert any(control % 2 != row % 2 for row, control in found.items())


def test_drawn_anew_each_epoch_from_a_seed():
    first, second = pairs(loader(), 0), pairs(loader(), 1)
    assert first != second
    assert pairs(loader(), 1) == second
    assert pairs(loader(seed=5), 0) != first
    fixed = loader(resample=False)
    assert pairs(fixed, 0) == pairs(fixed, 4) == first


def test_a_resumed_epoch_has_the_pairs_of_the_whole_one():
    whole, killed, resumed = loader(), loader(), loader()
    expected = pairs(whole, 2)
    killed.set_epoch(2)
    batches = iter(killed)
    for _ in range(3):
        next(batches)
    resumed.load_state_dict(killed.state_dict())
    rest = {}
    for batch in resumed:
        rest |= dict(zip(batch["row"].tolist(), batch["control_row"].tolist(), strict=True))
    assert 0 < len(rest) < N
    assert rest == {row: expected[row] for row in rest}


def test_every_control_is_drawn_about_as_often():
    of = loader(match="any")
    drawn = np.array([control for epoch in range(200) for row, control in pairs(of, epoch).items() if row % 3])
    counts = np.bincount(drawn, minlength=N)[of.controls]
    assert counts.sum() == 200 * 40
    assert np.abs(counts / counts.mean() - 1).max() < 0.2


@pytest.mark.parametrize(("batch_size", "batches"), [(7, 8), (60, 1), (90, 1)])
def test_a_last_batch_that_is_not_full_can_be_left_out(batch_size, batches):
    of = loader(drop_last=True)
    of.batch_size = batch_size
    assert len(of) == batches
    assert len(list(of)) == batches
