"""The jobs of a sweep: each runs once, and a failed one does not stop the others."""

import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import read_write

from pertexp import threads
from pertexp.config.cli import is_request, message_of
from pertexp.runs.documents import dumped
from pertexp.runs.record import write_text
from pertexp.runs.schema import FAILURE, METRICS_FILE, Failure

log = logging.getLogger(__name__)


def job_of_sweep(run: Callable[[], float | None], folder: Path) -> float | None:
    """Run one job, unless it is done already; a failure is put on record and costs the other jobs nothing.

    Returns the value that the run returns, NaN where it failed.
    """
    try:
        with FileLock(folder / ".lock", blocking=False):
            if (folder / METRICS_FILE).is_file():
                log.info("already done: %s", folder)
                return stored_value(folder)
            return _attempt(run, folder)
    except Timeout:
        log.info("left to the process that is at it: %s", folder)
        return None


def _attempt(run: Callable[[], float | None], folder: Path) -> float | None:
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        with _as_a_single_run(folder):
            return run()
    except Exception as fault:
        _record_failure(fault, folder)
        return math.nan


def stored_value(folder: Path) -> float | None:
    """Return the mean of a finished job's model on its primary metric; None where it has none."""
    from pertexp.tasks.registry import task_of

    value = task_of(folder).read_metrics(folder).value
    return None if math.isnan(value) else value


def _record_failure(fault: Exception, folder: Path) -> None:
    request = is_request(fault)
    message = message_of(fault) if request else traceback.format_exception_only(fault)[-1].strip()
    trace = "".join(traceback.format_exception(fault))
    write_text(folder / FAILURE, dumped(Failure(request, message, trace)))
    log.error("%s", message if request else trace)


@contextmanager
def _as_a_single_run(folder: Path) -> Iterator[None]:
    """While a job runs, let the command and Hydra's run folder be its own: distributed training repeats both.

    Afterwards, take back what distributed training left in the process: the next job starts processes of its own, and
    computes with the threads that were set.
    """
    from torch import distributed

    words, environment = sys.argv, dict(os.environ)
    hydra: Any = HydraConfig.get()
    with read_write(hydra):
        hydra.run.dir = str(folder)
    sys.argv = [words[0], *hydra.overrides.task]
    try:
        with threads.kept():
            yield
    finally:
        sys.argv = words
        os.environ.clear()
        os.environ.update(environment)
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
