"""Number of CPU threads. Floating-point sums depend on it, so equal results need equal numbers of threads.

One count rules all that computes: that of torch, which follows OMP_NUM_THREADS. Once it is decided it stands there too:
Lightning leaves alone what it finds there, and processes of our own read it.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pertexp.config.errors import DataError

log = logging.getLogger(__name__)

VARIABLE = "OMP_NUM_THREADS"


def count() -> int:
    """Return threads that compute now."""
    import torch

    return torch.get_num_threads()


def cores() -> int:
    """Return cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle(processes: int = 1) -> None:
    """Decide on one count for all that a run computes, numpy's linear algebra and its other processes included.

    Where nobody set one, each of several processes has its share of the cores. Lightning deals them out in the same
    way, but when training begins: after the data were prepared and the count was written down.
    """
    shared = processes > 1 and VARIABLE not in os.environ
    _decide(max(1, cores() // processes) if shared else count())


def same_as(earlier: object, whose: str) -> None:
    """Compute with as many threads as an earlier run, or say so where this machine has fewer cores.

    Parameters
    ----------
    earlier
        The count that was read; None where none was written down, which changes nothing.
    whose
        The file it was read from.

    Raises
    ------
    DataError
        Where it is no count.
    """
    if earlier is None:
        return
    if not isinstance(earlier, int) or isinstance(earlier, bool) or earlier < 1:
        raise DataError(f"{whose} says threads={earlier!r}: expected a whole number from 1; the file was changed.")
    if earlier == count():
        _decide(earlier)
        return
    if earlier > cores():
        log.warning(
            "%s was computed with %d threads, and %d cores are here: "
            "sums round otherwise, and training drifts from its numbers.",
            *(whose, earlier, cores()),
        )
        return
    log.info("computing with %d threads, as %s was; %d were set.", earlier, whose, count())
    _decide(earlier)


@contextmanager
def kept() -> Iterator[None]:
    """Around what sets the count of the whole process: numba at its first parallel loop, or a job of a sweep."""
    before, variable = count(), os.environ.get(VARIABLE)
    try:
        yield
    finally:
        _use(before)
        os.environ.pop(VARIABLE, None)
        os.environ.update({} if variable is None else {VARIABLE: variable})


def _decide(number: int) -> None:
    os.environ[VARIABLE] = str(number)
    _use(number)


def _use(number: int) -> None:
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(number, user_api="blas")
    torch.set_num_threads(number)
