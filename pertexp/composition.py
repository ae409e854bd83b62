"""From configuration to objects: every `_target_` built, every plain value held against its type first."""

import inspect
import typing
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf

from pertexp.errors import RequestError
from pertexp.typed import check_type

RESERVED = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}


def build(node: DictConfig, where: str, **extra: Any) -> Any:
    """Build what `node` describes; `where` is its name on the command line.

    Raises
    ------
    RequestError
        On a value of the wrong type or an option that the target does not know.
    """
    plain = OmegaConf.to_container(node, resolve=True)
    check(plain, where)
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as fault:
        raise _cause(fault, where) from fault


def build_group(node: DictConfig | None, where: str) -> dict[str, Any]:
    """Build every entry of a group that takes several at once (callbacks, loggers, baselines)."""
    entries: dict[Any, Any] = {} if node is None else dict(node)
    return {name: build(child, f"{where}.{name}") for name, child in entries.items() if child is not None}


def check(plain: Any, where: str) -> None:
    """Hold all plain values below a configuration node against the signatures of the targets they go to."""
    if not isinstance(plain, dict):
        return
    hints = _hints(plain["_target_"]) if "_target_" in plain else {}
    for key, value in plain.items():
        name = f"{where}.{key}"
        if isinstance(value, dict):
            check(value, name)
        elif key in hints and key not in RESERVED:
            check_type(hints[key], value, name)


def _hints(target: str) -> dict[str, Any]:
    """Type hints of a target's parameters; none where they cannot be resolved."""
    found = get_method(target) if target != "hydra.utils.get_object" else None
    function = found.__init__ if inspect.isclass(found) else found
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        return {}
    return {name: hint for name, hint in hints.items() if name != "return"}


def _cause(fault: InstantiationException, where: str) -> Exception:
    """The user's mistake behind a failed construction, or the failure itself."""
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, RequestError):
            return cause
        last, cause = cause, cause.__cause__
    if isinstance(last, TypeError) and "argument" in str(last):
        return RequestError(f"{where}: {str(last).split('.')[-1]}; look at its options with --help.")
    return fault
