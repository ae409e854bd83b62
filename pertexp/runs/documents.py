"""Schema objects as JSON documents: built from tables, dumped, loaded, and validated by the same classes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from pertexp.config.errors import DataError
from pertexp.runs.schema import FORMAT

T = TypeVar("T")


def build(kind: type[T], values: Mapping[Any, Any]) -> T:
    """Make an instance of a schema class from what a table or an array holds; numpy scalars become plain."""
    return TypeAdapter(kind).validate_python(plain(values))


def rows(kind: type[T], table: pd.DataFrame) -> list[T]:
    """Make one instance of a schema class for each row of a table."""
    return [build(kind, row) for row in table.to_dict("records")]


def dump(record: object) -> Any:
    """Return a schema object as plain values, as JSON has them."""
    kind: type[Any] = type(record)
    return TypeAdapter(kind).dump_python(record, mode="json")


def dumped(record: object) -> str:
    """Return a schema object as the text of its file."""
    return json.dumps(dump(record), indent=1, allow_nan=False) + "\n"


def load(kind: type[T], path: Path) -> T:
    """Read a JSON file as a schema class.

    Raises
    ------
    DataError
        Where it is not what a run of this version writes.
    """
    return validated(kind, json.loads(path.read_text(encoding="utf-8")), path)


def validated(kind: type[T], values: object, path: Path) -> T:
    """Check plain values against a schema class; `path` is named where they do not fit."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(f"{path} is not what a run writes ({where}: {first['msg']}).") from fault


def require_format(values: object, path: Path) -> None:
    """Refuse metrics.json of another version of run folders."""
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        written = "before run folders had a format" if found is None else f"as format {found}"
        raise DataError(f"{path} was written {written}, and this version reads format {FORMAT}: run it again.")


def plain(value: Any) -> Any:
    """Return a value without numpy types, nested as it is."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value
