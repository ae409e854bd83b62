"""Run chosen tests over mutants, each in a process that is forked after all but pertexp has been imported."""

import contextlib
import importlib
import os
import py_compile
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.util import cache_from_source
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.mutants.copies import copy, environment
from benchmarks.mutants.places import Mutant

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    import pytest

IMPORTED = ("torch", "lightning", "torchmetrics", "scanpy", "anndata", "hydra", "pandas", "scipy.stats", "scipy.sparse",
            "sklearn.metrics", "pyarrow", "h5py", "pydantic", "rich", "jinja2", "matplotlib.pyplot", "illico",
            "pyfaidx", "loguru", "hypothesis", "pytest", "lightning.pytorch.loggers")  # fmt: skip
EXTRA_SECONDS = 60  # a test that takes this long and three times its time besides is stopped
PASSED, FAILED = 0, 1  # exit codes of pytest
STOPPED = -1


@dataclass(frozen=True)
class Job:
    """A mutant, the groups of tests to run over it, and how long those of each group take without it."""

    mutant: Mutant
    groups: tuple[tuple[str, ...], ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant.

    Attributes
    ----------
    noticed_by
        The first test that failed, or that no test could run; empty where all passed.
    n_tests
        How many were to run.
    unsteady
        Tests that failed and also fail without the mutation: they say nothing.
    seconds
        How long it took.
    """

    job: Job
    noticed_by: str
    n_tests: int
    unsteady: tuple[str, ...]
    seconds: float


class Selected:
    """A plugin of pytest: runs these tests in this order, and writes which one failed."""

    def __init__(self, tests: Sequence[str], target: Path) -> None:
        self.order = {test: number for number, test in enumerate(tests)}
        self.target = target

    def pytest_collection_modifyitems(self, items: "list[pytest.Item]") -> None:
        """Leave out all others."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: "pytest.TestReport") -> None:
        """Write the name of a test that fails."""
        if report.failed:
            self.target.write_text(report.nodeid)


class Worker:
    """One copy of the checkout, and the processes that run tests in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sound: dict[str, bool] = {}
        os.environ.update(environment(folder))
        os.chdir(folder)
        sys.dont_write_bytecode = True
        sys.path[:0] = [str(folder)]
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            del os.environ[name]
        for name in IMPORTED:
            importlib.import_module(name)
        for file in (folder / "pertexp").rglob("*.py"):
            py_compile.compile(str(file))

    def run(self, job: Job) -> Outcome:
        """Run groups of tests over a mutant until one fails that passes without it."""
        start, unsteady, noticed = time.monotonic(), [], ""
        for group, seconds in zip(job.groups, job.seconds, strict=True):
            tests = list(group)
            while tests and not noticed:
                with self._mutated(job.mutant):
                    code, failed = self._test(tests, seconds)
                if failed and not self._is_sound(failed):
                    unsteady.append(failed)
                    tests.remove(failed)
                    continue
                noticed = _reason(code, failed)
                break
            if noticed:
                break
        n_tests = sum(map(len, job.groups))
        return Outcome(job, noticed, n_tests, tuple(unsteady), time.monotonic() - start)

    @contextlib.contextmanager
    def _mutated(self, mutant: Mutant) -> Iterator[None]:
        """Write the mutant over the module. Its bytecode is removed: equal size and time would let it pass for new."""
        file = self.folder / mutant.place.path
        compiled = Path(cache_from_source(str(file)))
        try:
            file.write_text(mutant.code)
            compiled.unlink(missing_ok=True)
            yield
        finally:
            file.write_text(mutant.source)
            py_compile.compile(str(file))

    def _is_sound(self, test: str) -> bool:
        """Whether a test passes by itself, in this copy and without a mutation."""
        if test not in self.sound:
            self.sound[test] = self._test([test], 600)[0] == PASSED
        return self.sound[test]

    def _test(self, tests: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run tests in a process of their own; its exit code, and the test that failed."""
        with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
            target = Path(temporary) / "failed"
            target.touch()
            child = os.fork()
            if child == 0:
                _be_pytest(tests, target)
            code = _wait(child, 3 * seconds + EXTRA_SECONDS)
            return code, target.read_text()


def _be_pytest(tests: Sequence[str], target: Path) -> None:
    """Become pytest: the first failure ends it."""
    code = 4
    try:
        os.setsid()
        resource_tracker._resource_tracker._fd = None  # type: ignore[attr-defined]  # tests have a tracker of their own
        output = os.open(target.with_name("output"), os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        import pytest

        files = list(dict.fromkeys(test.split("::")[0] for test in tests))
        code = int(pytest.main([*files, "-x", "--no-header", "--tb=no"], plugins=[Selected(tests, target)]))
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> int:
    """Wait for a process, and stop it and all that it started when the time is over."""
    end = time.monotonic() + seconds
    code = STOPPED
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.02)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests left running
    return code


def _reason(code: int, failed: str) -> str:
    if failed:
        return failed
    if code == PASSED:
        return ""
    if code == STOPPED:
        return "(stopped: took too long)"
    return f"(pytest ended with {code}: the tests cannot be collected)"


_worker: Worker


def _begin(folders: "Queue[Path]") -> None:
    global _worker
    _worker = Worker(folders.get())


def _run(job: Job) -> Outcome:
    return _worker.run(job)


def outcomes(root: Path, jobs: Sequence[Job], n_processes: int) -> Iterator[Outcome]:
    """Run jobs in as many copies as processes; each outcome as it comes. Nothing is left of the copies."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        folders: Queue[Path] = context.Queue()
        for number in range(n_processes):
            folders.put(copy(root, Path(temporary) / str(number)))
        with ProcessPoolExecutor(n_processes, context, _begin, (folders,)) as pool:
            for future in as_completed([pool.submit(_run, job) for job in jobs]):
                yield future.result()
