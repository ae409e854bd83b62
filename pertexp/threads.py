"""How many threads compute on the CPU. Sums are rounded as they are cut up, so equal bits need equal counts.

One count rules all that computes: that of torch, which follows OMP_NUM_THREADS.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pertexp.errors import DataError

log = logging.getLogger(__name__)


def count() -> int:
    """Threads that compute now."""
    import torch

    return torch.get_num_threads()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle() -> None:
    """Let the linear algebra of numpy compute with as many threads as torch."""
    _use(count())


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
        return
    if earlier > cores():
        log.warning(
            "%s was computed with %d threads, and %d cores are here: numbers may differ in their last digits.",
            *(whose, earlier, cores()),
        )
        return
    log.info("computing with %d threads, as %s was; %d were set.", earlier, whose, count())
    _use(earlier)


@contextmanager
def kept() -> Iterator[None]:
    """Around a library that sets the count of the whole process, as numba does at its first parallel loop."""
    before = count()
    try:
        yield
    finally:
        _use(before)


def _use(number: int) -> None:
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(number, user_api="blas")
    torch.set_num_threads(number)
