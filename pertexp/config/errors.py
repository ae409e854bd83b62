"""Errors that a user can fix, each with one message."""

from collections.abc import Iterable
from difflib import get_close_matches


class RequestError(Exception):
    """A request that cannot be carried out as it stands: the command prints its message and exits with code 2.

    The message says what was found, where, what was expected and what to type instead.
    """


class DataError(RequestError):
    """Input that is missing, unreadable, or not what the configuration says it is."""


class MismatchError(RequestError):
    """Parts that do not fit one another: a model on data of another task, a loss on another scale."""


def nearest(word: str, choices: Iterable[str], limit: int = 5, *, above: str = "") -> str:
    """Name the choices that look like `word`, or the first ones, each behind `above`: the tail of many a message."""
    known = sorted({str(choice) for choice in choices})
    close = get_close_matches(word, known, n=limit, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(above + one for one in close)}?"
    shown = ", ".join(above + one for one in known[:limit]) or "none"
    return f"known: {shown}{', ...' if len(known) > limit else ''}"
