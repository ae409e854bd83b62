"""What the split tables of all tasks share: text and hash, files, and the fold in use."""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, RequestError


def canonical_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """CSV text: header, rows as they come, Unix line ends; written without pandas, so stable."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def text_hash(text: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def require_fold(fold: int, folds: Sequence[int]) -> None:
    """DataError where a split has no such fold."""
    if fold not in folds:
        raise DataError(
            f"Fold {fold} was asked for, the split has folds {folds[0]} to {folds[-1]}: "
            f"type data.split.fold={folds[0]}."
            if folds
            else f"Fold {fold} was asked for, the split table is empty: give it at least one row."
        )


def refuse_unknown_roles(found: Iterable[str], roles: Sequence[str]) -> None:
    """DataError that names the first role that is none."""
    unknown = sorted(set(found) - set(roles))
    if unknown:
        raise DataError(f"The split has the role '{unknown[0]}': a role is one of {', '.join(roles)}.")


def write_table(path: str | Path, table: pd.DataFrame, text: str) -> None:
    """Write the text to `.csv` or the table to `.parquet`; the file appears whole or not at all."""
    path = Path(path)
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": lambda to: to.write_bytes(text.encode()),
        ".parquet": lambda to: table.to_parquet(to, index=False),
    }
    if path.suffix not in writers:
        raise RequestError(f"A split cannot be written to '{path}': end the name with .csv or .parquet.")
    partial = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        writers[path.suffix](partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_rows(path: Path) -> pd.DataFrame:
    """Return the user's own table as text; DataError where it is not there or cannot be read."""
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": lambda at: pd.read_csv(at, dtype=str, keep_default_na=False),
        ".tsv": lambda at: pd.read_csv(at, sep="\t", dtype=str, keep_default_na=False),
        ".parquet": lambda at: pd.read_parquet(at).astype(str).astype(object),
    }
    if path.suffix not in readers:
        raise RequestError(f"Split table '{path}' is of no known kind: give a .csv, .tsv or .parquet file.")
    if not path.is_file():
        raise DataError(f"Split table '{path}' does not exist: give its place with data.split.path=...")
    try:
        return readers[path.suffix](path)
    except (ValueError, OSError) as error:
        raise DataError(f"Split table '{path}' cannot be read ({error}): give a table with a header.") from error


def fold_numbers(rows: pd.DataFrame, path: str) -> pd.Series:
    """Return the column `fold` of a user's table as whole numbers; 0 throughout where there is no such column."""
    if "fold" not in rows:
        return pd.Series(0, index=rows.index, dtype=np.int64)
    wrong = rows.loc[~rows["fold"].str.fullmatch(r"\s*\d+\s*"), "fold"]
    if len(wrong):
        raise DataError(
            f"Split table '{path}' has fold '{wrong.iloc[0]}' in row {wrong.index[0] + 1}: "
            "folds are whole numbers from 0."
        )
    return rows["fold"].astype(np.int64)
