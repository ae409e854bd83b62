"""Batches: the gather, the order, and a position that survives a kill."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pertexp.data.screens.batches import BatchLoader, Rows, gather


@st.composite
def matrices_and_rows(draw):
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 9)))
    dense = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0, 0, 0, 1, 2.5, -3, 1e6])))
    matrix = sp.csr_matrix(dense)
    index_type = draw(st.sampled_from([np.int32, np.int64]))
    matrix.indptr, matrix.indices = matrix.indptr.astype(index_type), matrix.indices.astype(index_type)
    rows = draw(hnp.arrays(np.int64, st.integers(0, 12), elements=st.integers(0, shape[0] - 1)))
    return matrix, dense, rows


@settings(max_examples=150, deadline=None)
@given(matrices_and_rows())
def test_gather_is_dense_indexing(example):
    matrix, dense, rows = example
    found = gather(matrix, rows)
    assert (found.dtype, found.flags.c_contiguous) == (np.float32, True)
    assert np.array_equal(found, dense[rows])


def test_gather_owns_its_memory():
    matrix = sp.csr_matrix(np.eye(3, dtype=np.float32))
    gather(matrix, np.array([0, 1]))[:] = 7
    assert np.array_equal(matrix.toarray(), np.eye(3))


def loader(n_rows=23, index=None, batch_size=5, **options):
    """Rows whose first gene is their own number."""
    number = np.arange(n_rows)
    rows = Rows(
        counts=sp.csr_matrix(np.stack([number, number % 2], axis=1).astype(np.float32)),
        perturbation=number % 4,
        context=number % 3,
        phase=number % 2,
        log_size=np.log1p(number).astype(np.float32),
        cells=np.ones(n_rows, dtype=np.float32),
    )
    index = np.arange(n_rows) if index is None else index
    return BatchLoader(rows, index, batch_size, **{"shuffle": True, **options})


def numbers(batches):
    return [batch["counts"][:, 0].int().tolist() for batch in batches]


def in_epoch(of, epoch):
    of.set_epoch(epoch)
    return numbers(of)


def test_a_batch_says_what_its_rows_are():
    batch = next(iter(loader()))
    number = batch["counts"][:, 0].long()
    assert {name: value.dtype for name, value in batch.items()} == {
        **dict.fromkeys(("counts", "log_size", "cells"), torch.float32),
        **dict.fromkeys(("perturbation", "context", "phase"), torch.int64),
    }
    for name, modulus in (("perturbation", 4), ("context", 3), ("phase", 2)):
        assert torch.equal(batch[name], number % modulus)
    assert torch.allclose(batch["log_size"], torch.log1p(number.float()))


def test_each_row_once_an_epoch_and_a_short_last_batch():
    index = np.arange(3, 20)
    batches = in_epoch(loader(index=index), 0)
    assert [len(batch) for batch in batches] == [5, 5, 5, 2]
    assert sorted(row for batch in batches for row in batch) == index.tolist()


def test_the_order_is_that_of_seed_and_epoch_alone():
    of = loader(seed=3)
    epochs = [in_epoch(of, epoch) for epoch in range(3)]
    assert len({str(epoch) for epoch in epochs}) == 3
    assert in_epoch(loader(seed=3), 2) == epochs[2]
    assert in_epoch(loader(seed=4), 2) != epochs[2]
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert in_epoch(loader(seed=3), 1) == epochs[1]


def test_without_shuffling_the_order_is_that_of_the_index():
    index = np.array([7, 2, 9, 4, 1, 0])
    of = loader(index=index, batch_size=4, shuffle=False)
    assert in_epoch(of, 0) == in_epoch(of, 5) == [[7, 2, 9, 4], [1, 0]]


@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_a_new_loader_continues_where_the_old_one_stopped(done):
    whole = in_epoch(loader(seed=1), 2)
    killed = loader(seed=1)
    killed.set_epoch(2)
    iterator = iter(killed)
    before = [next(iterator) for _ in range(done)]
    resumed = loader(seed=1)
    resumed.load_state_dict(killed.state_dict())
    after = numbers(resumed) if done < len(whole) else []
    assert numbers(before) + after == whole
    assert in_epoch(resumed, 3) == in_epoch(loader(seed=1), 3)


def test_a_state_taken_at_the_end_begins_the_next_epoch_whole():
    of = loader()
    in_epoch(of, 0)
    resumed = loader()
    resumed.load_state_dict(of.state_dict())
    assert in_epoch(resumed, 1) == in_epoch(loader(), 1)


def test_an_iteration_broken_off_does_not_shift_the_next():
    """As limit_val_batches does: each validation sees the same first batches."""
    of = loader(shuffle=False)
    first = [next(iterator) for iterator in (iter(of), iter(of))]
    assert numbers(first) == [[0, 1, 2, 3, 4]] * 2
    assert len(numbers(of)) == len(of)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.booleans())
def test_processes_share_the_rows_in_equal_numbers_of_batches(n_rows, batch_size, world_size, shuffle):
    shares = [
        loader(n_rows, batch_size=batch_size, shuffle=shuffle, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = [in_epoch(share, 1) for share in shares]
    assert {len(share) for share in shares} == {len(own) for own in batches}
    assert len({str([len(batch) for batch in own]) for own in batches}) == 1
    seen = [row for own in batches for batch in own for row in batch]
    assert set(seen) == set(range(n_rows))
    assert len(seen) - n_rows < world_size


def test_no_rows_are_no_batches():
    of = loader(index=np.arange(0), world_size=2)
    assert len(of) == 0
    assert list(of) == []
