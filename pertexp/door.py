"""The door of every command: a wrong request becomes one sentence and exit code 2."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from pertexp.errors import RequestError, nearest

WRONG_REQUEST = 2


def config_folder() -> str:
    """The Hydra tree: inside the package of an installed wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")


@contextmanager
def wrong_request_is_one_sentence() -> Iterator[None]:
    """Print what a user can mend and exit with code 2; let every other failure through with its traceback.

    With HYDRA_FULL_ERROR=1 set by the user, everything goes through.
    """
    wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise, instead of printing and exiting with code 1
    try:
        yield
    except (RequestError, HydraException, OmegaConfBaseException) as fault:
        if wanted or not _is_request(fault):
            raise
        print(f"pertexp: {sentence(fault)}", file=sys.stderr)  # noqa: T201
        raise SystemExit(WRONG_REQUEST) from None
    finally:
        if not wanted:
            del os.environ["HYDRA_FULL_ERROR"]


def _is_request(fault: Exception) -> bool:
    """A failed construction is a fault of ours, unless its cause was a request (unwrapped by the builder)."""
    return type(fault).__name__ != "InstantiationException"


def sentence(fault: Exception) -> str:
    """One line for what went wrong with a request."""
    if isinstance(fault, MissingConfigException):
        return _missing_choice(fault)
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    if isinstance(fault, RequestError):
        return " ".join(lines)
    unknown = re.search(r"Key '([^']+)' is not in struct", f"{fault} {fault.__cause__}")
    if unknown:
        where = re.search(r"Could not override '([^']+)'", str(fault))
        name = where.group(1) if where else unknown.group(1)
        return f"there is no option '{name}' in this composition: look at the printed configuration, or at --help."
    return " ".join(lines[:2])


def _missing_choice(fault: MissingConfigException) -> str:
    found = re.search(r"Could not find '([^']+)'", str(fault))
    if not found or not fault.options:
        return " ".join(str(fault).split())[:300]
    group, _, name = found.group(1).rpartition("/")
    return f"{group}={name} does not exist: {nearest(name, fault.options)}"


def guarded(command: Callable[[], None]) -> Callable[[], None]:
    """Wrap a command in the door."""

    def enter() -> None:
        with wrong_request_is_one_sentence():
            command()

    return enter
