"""The number of threads is kept: over libraries that change it, and from a run to those that repeat or resume it."""

import json
import logging

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from command import TINY, command
from threadpoolctl import threadpool_info

from pertexp import threads
from pertexp.errors import DataError
from pertexp.metrics.cells import Cells
from pertexp.metrics.differential import wilcoxon


@pytest.fixture(autouse=True)
def kept():
    with threads.kept():
        yield


def blas() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_test_of_expression_leaves_the_threads_alone():
    torch.set_num_threads(1)
    values = sp.csr_matrix(np.random.default_rng(0).poisson(2.0, (40, 6)).astype(np.float32))
    cells = Cells(values, np.repeat([0, -1], 20), 1, "counts", np.ones(40))
    p_values = wilcoxon(cells, values)  # its parallel loops run on as many threads as there are cores
    assert np.isfinite(p_values).all()
    assert threads.count() == 1
    torch.set_num_threads(2)
    np.testing.assert_array_equal(wilcoxon(cells, values), p_values)
    assert threads.count() == 2


def test_numpy_computes_with_as_many_threads_as_torch():
    np.ones((2, 2)) @ np.ones((2, 2))
    torch.set_num_threads(1)
    threads.settle()
    assert blas() == {1}


def test_the_threads_of_an_earlier_run_are_used(monkeypatch, caplog):
    monkeypatch.setattr(threads, "cores", lambda: 3)
    torch.set_num_threads(1)
    with caplog.at_level(logging.INFO):
        threads.same_as(3, "last.ckpt")
    assert threads.count() == 3
    assert blas() == {3}
    assert caplog.messages == ["computing with 3 threads, as last.ckpt was; 1 were set."]


@pytest.mark.parametrize("earlier", [None, 1])
def test_nothing_is_said_where_nothing_changes(earlier, caplog):
    torch.set_num_threads(1)
    with caplog.at_level(logging.INFO):
        threads.same_as(earlier, "last.ckpt")
    assert (threads.count(), caplog.messages) == (1, [])


def test_more_threads_than_cores_are_said_and_not_used(monkeypatch, caplog):
    monkeypatch.setattr(threads, "cores", lambda: 4)
    before = threads.count()
    threads.same_as(64, "last.ckpt")
    assert threads.count() == before
    (said,) = caplog.messages
    assert said == (
        "last.ckpt was computed with 64 threads, and 4 cores are here: numbers may differ in their last digits."
    )


@pytest.mark.parametrize("said", ["two", 0, -1, 1.5, True, [2]])
def test_what_is_no_count_is_refused(said):
    with pytest.raises(DataError, match=r"last\.ckpt says threads=.*expected a whole number from 1"):
        threads.same_as(said, "last.ckpt")


def test_a_run_writes_its_threads_down(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    torch.set_num_threads(1)
    done = command(*TINY, "trainer.max_epochs=1")
    assert done.code == 0, done.err
    assert json.loads((done.folder / "environment.json").read_text())["threads"] == 1
    assert torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)["threads"] == 1
    assert threads.count() == 1
    (done.folder / "environment.json").write_text("{")
    cut = command(f"repeat={done.folder}")
    assert cut.code == 2
    assert "environment.json is not valid JSON: the file was changed or cut off." in cut.err
