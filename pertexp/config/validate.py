"""Values of a configuration, checked against the types that the code declares."""

from typing import Any, TypeVar

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from pertexp.config.errors import RequestError

T = TypeVar("T")
NO_OTHERS = ConfigDict(extra="forbid")  # of options, as their `__pydantic_config__`: a misspelled one is refused
OBJECTS = {"is_instance_of", "callable_type", "dataclass_type", "dataclass_exact_type"}
PLAIN_TYPES = {"int", "float", "str", "bool", "list", "dict", "tuple", "none", "timedelta"}


def typed(kind: type[T], values: Any, where: str) -> T:
    """`values` as an instance of `kind`; nested dataclasses are built from plain dictionaries.

    Raises
    ------
    RequestError
        Naming the key below `where`, what was found and what was expected.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as fault:
        raise RequestError(_message(fault, where)) from None


def check_type(hint: Any, value: Any, where: str) -> None:
    """Refuse a plain value that does not fit a type hint.

    Where a hint takes a number or an object (`float | Tensor`), a plain value has to be the number, and where it takes
    an object alone, no plain value will do; a list may still hold descriptions of objects.
    """
    if getattr(hint, "_is_protocol", False):
        raise RequestError(_no_object(value, where))
    adapter = _adapter(hint)
    if adapter is None:
        return
    try:
        adapter.validate_python(value)
    except ValidationError as fault:
        plain = [error["type"] not in OBJECTS for error in fault.errors()]
        if _is_plain(value) or all(plain):
            raise RequestError(_message(fault, where) if any(plain) else _no_object(value, where)) from None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(entry) for entry in value)
    return value is None or isinstance(value, str | int | float)


def _no_object(value: Any, where: str) -> str:
    group = where.replace(".", "/")
    return f"{where}={value}: expected a choice with options of its own: type {group}=<choice>, as listed by --help."


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    """Return what checks a hint; None where a hint holds something that cannot be checked."""
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except SchemaError:
        return None
    except PydanticUserError:  # a dataclass takes no settings from outside
        return TypeAdapter(hint)


def _message(fault: ValidationError, where: str) -> str:
    errors = fault.errors()
    error = next((error for error in errors if error["type"] not in OBJECTS), errors[0])
    names = [str(part) for part in error["loc"] if isinstance(part, str) and part.isidentifier()]
    # A union says which member failed; an option of a command lies beneath nothing.
    path = ".".join(name for name in (where, *names) if name and name not in PLAIN_TYPES)
    if error["type"] == "unexpected_keyword_argument":
        return f"{path} is not an option: remove it, or look at what there is with --help."
    if error["type"] == "list_type" and isinstance(error["input"], str | int | float):
        return f"{path}={error['input']}: expected a list: type '{path}=[{error['input']}]'."
    return f"{path}={error['input']}: {error['msg'][0].lower()}{error['msg'][1:]}."
