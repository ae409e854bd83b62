"""Values of a configuration held against the types that the code declares."""

from typing import Any, TypeVar

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from pertexp.errors import RequestError

T = TypeVar("T")


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
        raise RequestError(_sentence(fault, where)) from None


def check_type(hint: Any, value: Any, where: str) -> None:
    """Refuse a plain value that does not fit a type hint; hints that say nothing of plain values pass everything."""
    adapter = _adapter(hint)
    if adapter is None:
        return
    try:
        adapter.validate_python(value)
    except ValidationError as fault:
        if all(error["type"] not in {"is_instance_of", "callable_type"} for error in fault.errors()):
            raise RequestError(_sentence(fault, where)) from None


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # dataclasses take no settings from outside, and nothing plain goes into them
        return None


def _sentence(fault: ValidationError, where: str) -> str:
    error = fault.errors()[0]
    path = ".".join([where, *(str(part) for part in error["loc"] if isinstance(part, str) and part.isidentifier())])
    if error["type"] == "unexpected_keyword_argument":
        return f"{path} is not an option: remove it, or look at what there is with --help."
    return f"{path}={error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}."
