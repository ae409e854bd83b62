"""From configuration to objects: every `_target_` built, every plain value checked against its type first."""

import inspect
import pydoc
import typing
from collections.abc import Callable
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from pertexp.config.errors import RequestError, nearest
from pertexp.config.validate import check_type

RESERVED = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}
MENDABLE = {"MisconfigurationException", "ValueError"}  # what constructors say of plain values that they cannot use


def build(node: DictConfig, where: str, **extra: Any) -> Any:
    """Build what `node` describes; `where` is its name on the command line.

    Raises
    ------
    RequestError
        On a value that is missing or of the wrong type, or an option that the target does not know.
    """
    check_node(node, where)
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as fault:
        raise _cause(fault, where) from fault


def build_group(node: DictConfig | None, where: str) -> dict[str, Any]:
    """Build every entry of a group that takes several at once (callbacks, loggers)."""
    entries: dict[Any, Any] = {} if node is None else dict(node)
    for name, child in entries.items():
        if child is not None and not OmegaConf.is_dict(child):
            raise RequestError(f"{where}.{name}={child} cannot be built: leave it out with ~{where}.{name}")
    return {name: build(child, f"{where}.{name}") for name, child in entries.items() if child is not None}


def check_node(node: Any, where: str) -> None:
    """Refuse values that are missing or of the wrong type, anywhere below a node, without building anything."""
    if not OmegaConf.is_config(node):
        return
    missing = sorted(OmegaConf.missing_keys(node))
    if missing:
        raise RequestError(f"{missing[0]} has no value: type {missing[0]}=...")
    check(OmegaConf.to_container(node, resolve=True), where)


def check(plain: Any, where: str) -> None:
    """Check all plain values below a configuration node against the signatures of the targets they go to."""
    if not isinstance(plain, dict):
        return
    hints: dict[str, Any] = {}
    if "_target_" in plain:
        function = _function(plain["_target_"], where)
        _refuse_unknown_options(function, plain, where)
        hints = _hints(function)
    for key, value in plain.items():
        name = f"{where}.{key}"
        if isinstance(value, dict):
            check(value, name)
        elif key in hints and key not in RESERVED:
            check_type(hints[key], value, name)


def _function(target: str, where: str) -> Callable[..., Any]:
    """Return what a `_target_` calls; RequestError where there is no such thing."""
    found: Any = pydoc.locate(target)
    if not callable(found):
        raise RequestError(f"{where}._target_={target} names no class or function: check its spelling.")
    return found.__init__ if inspect.isclass(found) else found


def _refuse_unknown_options(function: Callable[..., Any], plain: dict[str, Any], where: str) -> None:
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in plain:
        if key not in parameters and key not in RESERVED:
            raise RequestError(f"{where}.{key} is not an option of {plain['_target_']}; {nearest(key, parameters)}")


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Type hints of a target's parameters; none where they cannot be resolved."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}
    return {name: hint for name, hint in hints.items() if name != "return"}


def _cause(fault: InstantiationException, where: str) -> Exception:
    """Return the user's mistake behind a failed construction, or the failure itself."""
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, RequestError):
            return cause
        if type(cause).__name__ in MENDABLE:
            return RequestError(f"{where} cannot be had as it is set: {str(cause).strip().splitlines()[0]}")
        cause = cause.__cause__
    return fault
