"""The command line: a wrong request becomes one message and exit code 2."""

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException, ReadonlyConfigError

from pertexp.config import choices_by_task, search_path
from pertexp.config.errors import RequestError, nearest
from pertexp.config.renamed import of_one_task, renamed
from pertexp.config.search_path import config_folder

WRONG_REQUEST = 2
INTERRUPTED = 130
NOWHERE_TO_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR}
FULL_ERROR = "HYDRA_FULL_ERROR"
NUMBER_FOR_GROUP = "Config group override must be a string"  # Hydra says so in a plain ValueError
choices_by_task.register()
search_path.register()
_everything: ContextVar[bool] = ContextVar("everything", default=False)


def guarded(command: Callable[[], None]) -> Callable[[], None]:
    """Wrap a command, so that it refuses a wrong request; HYDRA_FULL_ERROR=1, set by the user, shows the traceback."""

    def enter() -> None:
        wanted = os.environ.get(FULL_ERROR)
        token = _everything.set(wanted == "1")
        os.environ[FULL_ERROR] = "1"  # makes Hydra raise, instead of printing and exiting with code 1
        try:
            with one_message():
                command()
        finally:
            _everything.reset(token)
            if wanted is None:
                del os.environ[FULL_ERROR]
            else:
                os.environ[FULL_ERROR] = wanted

    return enter


@contextmanager
def one_message() -> Iterator[None]:
    """Print what a user can fix and exit with code 2; let every other failure through with its traceback.

    Around the job as well as around the command: Hydra would print a line of its own for a failure that it sees.
    """
    try:
        yield
    except KeyboardInterrupt:
        _leave(
            "interrupted; ckpt_path=<run folder>/checkpoints/last.ckpt goes on from the last checkpoint", INTERRUPTED
        )
    except BrokenPipeError:  # as in `--help | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as fault:
        if _everything.get() or not is_request(fault):
            raise
        _leave(message_of(fault), WRONG_REQUEST)


def _leave(said: str, code: int) -> NoReturn:
    print(f"pertexp: {said}", file=sys.stderr)  # noqa: T201
    raise SystemExit(code) from None


def is_request(fault: Exception) -> bool:
    """Return whether a user can fix it; a failed construction is a fault of ours (the builder unwraps requests)."""
    kinds = (RequestError, HydraException, OmegaConfBaseException)
    ours = (InstantiationException, ReadonlyConfigError)
    if isinstance(fault, kinds):
        return not isinstance(fault, ours)
    if isinstance(fault, OSError):
        return fault.errno in NOWHERE_TO_WRITE
    return NUMBER_FOR_GROUP in str(fault)


def message_of(fault: Exception) -> str:
    """Return one line for what went wrong with a request."""
    request = _request_behind(fault)
    if request is not None:
        return _joined(str(request).splitlines())
    if isinstance(fault, MissingConfigException):
        return _missing_choice(fault)
    if isinstance(fault, OSError):
        where = "name a folder to write to with PERTEXP_OUTPUTS or paths.output_dir=..."
        return f"{fault.filename}: {fault.strerror}; {where}"
    if isinstance(fault, OverrideParseException):
        return _unreadable(str(fault.override))
    if NUMBER_FOR_GROUP in str(fault):
        return "a group was given a number, or null: type group=choice, as listed by --help."
    unknown = _unknown_key(fault) or _misplaced_group(str(fault))
    if unknown is not None:
        return unknown
    lines = str(fault).splitlines()
    said = _joined(line for line in lines if not re.match(r"\s*(full_key|object_type|reference_type)\b", line))
    return re.sub(r"^\w+ raised while resolving interpolation: ", "", said)


def _unreadable(override: str) -> str:
    """Return the message for a value that needs quotes: one with characters of Hydra's own grammar."""
    key, equals, value = override.partition("=")
    if value.startswith("[") and value.endswith("]"):
        quoted = ",".join(f'"{item.strip()}"' for item in value[1:-1].split(","))
        return f"'{override}' cannot be read: type '{key}=[{quoted}]', with both kinds of quotes."
    if re.fullmatch(r"[\w./+~@]+", key) and equals and value:
        return f"'{override}' cannot be read: type '{key}=\"{value}\"', with both kinds of quotes."
    return f"'{override}' cannot be read: type key.key=value or group=choice."


def _joined(lines: Iterator[str] | list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def _request_behind(fault: BaseException | None) -> RequestError | None:
    """Return the request behind a failure: it may come wrapped by what resolved or built it."""
    while fault is not None and not isinstance(fault, RequestError):
        fault = fault.__cause__
    return fault


def _unknown_key(fault: Exception) -> str | None:
    """Return the message for an option that the composition does not have, with those that look like it."""
    cause = fault.__cause__ if isinstance(fault.__cause__, OmegaConfBaseException) else fault
    unknown = re.search(r"Key '([^']+)' is not in struct", str(cause))
    if not unknown:
        return None
    where = re.search(r"Could not override '([^']+)'", str(fault))
    name = where.group(1) if where else unknown.group(1)
    if (said := renamed(name) or of_one_task(name)) is not None:
        return said
    if "/" in name:
        return f"there is no group '{name}'; {nearest(name, _groups())}"
    siblings = getattr(cause, "parent_node", None)
    known = [str(key) for key in siblings or () if not str(key).startswith("_")]
    above = name.rpartition(unknown.group(1))[0]
    hint = nearest(unknown.group(1), known, above=above) if known else "look at --help"
    further = f" (+{name}=... adds an option that is not listed)" if above else ""
    return f"there is no option '{name}' in this composition; {hint}{further}"


def _groups() -> list[str]:
    """Return the groups as they are typed, those of parts of a choice included."""
    tree = Path(config_folder())
    found = {path.parent.relative_to(tree).as_posix() for path in tree.rglob("*.yaml")} - {"."}
    return sorted(
        {name.rpartition("/")[0] if name.rpartition("/")[0] in choices_by_task.GROUPS else name for name in found}
    )


def _misplaced_group(said: str) -> str | None:
    """Return the message for a group that a command does not have, or was given twice."""
    misplaced = re.search(r"(?:In '([^']+)': )?Could not override '([^']+)'\.\s+No match in the defaults list", said)
    if misplaced and misplaced.group(1):
        choice = "=".join(misplaced.group(1).rsplit("/", 1))
        return (
            f"{choice} does not fit the other choices: it sets {misplaced.group(2)}, which they do not have; choose a "
            "model and data of one task (screens, or pairs)."
        )
    if misplaced and misplaced.group(2).rpartition("/")[0] in choices_by_task.GROUPS:
        group, _, task = misplaced.group(2).rpartition("/")
        return f"{group}/{task} holds the choices of {group} for {task}: type {group}=..., with the name alone."
    if misplaced:
        return f"{misplaced.group(2)} is no group of this command: remove {misplaced.group(2)}=..., or look at --help."
    twice = re.search(r"Multiple values for (\S+)\. To override a value use 'override \S+: ([^']+)'", said)
    return f"{twice.group(1)} is there already: type {twice.group(1)}={twice.group(2)}, without +." if twice else None


def _missing_choice(fault: MissingConfigException) -> str:
    found = re.search(r"Could not (?:find|load) '([^']+)'", str(fault))
    if not found:
        return _joined(str(fault).splitlines()[:1])
    group, _, name = found.group(1).rpartition("/")
    if (now := renamed(f"{group}={name}")) is not None:
        return now
    folder = Path(config_folder()) / group
    known = fault.options or [path.stem for path in folder.glob("*.yaml")]
    return f"{group}={name} does not exist; {nearest(name, known)}"


@contextmanager
def no_folder_for_a_wrong_request(folder: Path) -> Iterator[None]:
    """Take back the folder that Hydra made, where the request was refused before anything else was written to it."""
    try:
        yield
    except Exception as fault:
        known = {"config", "pertexp.log"}
        if is_request(fault) and is_first_process() and {path.name for path in folder.iterdir()} <= known:
            shutil.rmtree(folder)
        raise


def is_first_process() -> bool:
    """Return whether this process speaks and writes: the only one, or the first of a distributed run."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
