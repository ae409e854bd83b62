"""The number of threads is kept: over libraries that change it, and from a run to those that repeat or resume it."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from command import TINY, command
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from places import ROOT, SUPPORT
from threadpoolctl import threadpool_info

from pertexp import threads
from pertexp.config.errors import DataError
from pertexp.metrics.cells import Cells
from pertexp.metrics.differential import wilcoxon
from pertexp.runs.jobs import finished_jobs


@pytest.fixture(autouse=True)
def kept():
    with threads.kept():
        yield


def blas() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


# numba sets the count of the process at its first parallel loop alone: each of these is a first one.
FIRST_LOOPS = {
    "variable genes": """
from pertexp.data.screens.design import DesignOptions, build_design
from pertexp.data.screens.embeddings import TrainingPca
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation

pca = TrainingPca(dimensions=2, fallback="mean")
screen = SimulatedScreen(n_genes=30, n_perturbations=10, n_combinations=0, cells_per_perturbation=12, n_controls=30)()
own = {"gene_embedding": pca, "perturbation_embedding": pca, "split": UnseenPerturbation()}
assert build_design(screen, DesignOptions(n_top_genes=10, **own)).screen.n_genes < 30
""",
    "tests of expression": """
import numpy as np
from differential_cells import screen
from pertexp.metrics.differential import wilcoxon

cells = screen()
assert np.isfinite(wilcoxon(cells, cells.expression)).any()
""",
}


@pytest.mark.medium
@pytest.mark.parametrize("name", FIRST_LOOPS)
def test_a_library_that_sets_the_threads_of_the_process_does_not_keep_them(name):
    script = f"from pertexp import threads\n{FIRST_LOOPS[name]}\nprint('threads:', threads.count())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{SUPPORT}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "threads: 1"


def test_expression_is_tested_alike_on_any_number_of_threads():
    values = sp.csr_matrix(np.random.default_rng(0).poisson(2.0, (40, 6)).astype(np.float32))
    cells = Cells(values, np.repeat([0, -1], 20), 1, "counts", np.ones(40))
    torch.set_num_threads(1)
    p_values = wilcoxon(cells, values)
    torch.set_num_threads(2)
    np.testing.assert_array_equal(wilcoxon(cells, values), p_values)
    assert np.isfinite(p_values).all()
    assert threads.count() == 2
    torch.set_num_threads(threads.cores() + 1)  # more than numba takes
    np.testing.assert_array_equal(wilcoxon(cells, values), p_values)


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


@pytest.mark.parametrize("set_by", ["nobody", "the user", "an earlier run", "an earlier run, as many"])
@pytest.mark.parametrize("processes", [1, 2, 64])
def test_lightning_deals_out_no_other_threads(set_by, processes, monkeypatch):
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    torch.set_num_threads(threads.cores())
    if set_by == "the user":
        monkeypatch.setenv(threads.VARIABLE, "1")
        torch.set_num_threads(1)
    if set_by.startswith("an earlier run"):
        torch.set_num_threads(1 if "as many" in set_by else threads.cores())
        threads.same_as(1, "last.ckpt")
    before = threads.count()
    expected = max(1, before // processes) if set_by == "nobody" else 1
    threads.settle(processes)
    assert (threads.count(), blas()) == (expected, {expected})
    _set_num_threads_if_needed(processes)  # as it begins to train
    assert threads.count() == expected


def test_where_nobody_set_a_count_it_is_that_of_lightning(monkeypatch):
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    _set_num_threads_if_needed(2)
    expected = threads.count()
    monkeypatch.delenv(threads.VARIABLE)
    torch.set_num_threads(threads.cores())
    threads.settle(2)
    assert threads.count() == expected


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
        "last.ckpt was computed with 64 threads, and 4 cores are here: "
        "sums round otherwise, and training drifts from its numbers."
    )


@pytest.mark.parametrize("said", ["two", 0, -1, 1.5, True, [2]])
def test_what_is_no_count_is_refused(said):
    with pytest.raises(DataError, match=r"last\.ckpt says threads=.*expected a whole number from 1"):
        threads.same_as(said, "last.ckpt")


@pytest.mark.medium
def test_a_job_of_a_sweep_computes_with_the_threads_that_were_set(tmp_path, monkeypatch):
    """And not with those of the run that the job before resumed."""
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    torch.set_num_threads(threads.cores())
    words = (*TINY, "trainer.max_epochs=1")
    earlier = command(*words).folder / "checkpoints" / "last.ckpt"
    torch.set_num_threads(1)
    done = command("-m", *words, f"ckpt_path={earlier},null")
    assert done.code == 0, done.err
    found = {}
    for job in finished_jobs(done.folder.parent):
        resumed = "ckpt_path=null" not in (job / "config" / "overrides.yaml").read_text()
        found[resumed] = json.loads((job / "environment.json").read_text())["threads"]
    assert found == {True: threads.cores(), False: 1}


@pytest.mark.medium
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
