"""The schema of pairs: elements with sequence, and labelled pairs of them in cell lines."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, nearest
from pertexp.data.pairs.tokens import TokenStore

NO_PLACE = -1
KEY = ["cell_line", "enhancer", "promoter"]


@dataclass(frozen=True, eq=False)
class Elements:
    """Enhancers and promoters, each once.

    Attributes
    ----------
    names
        `[M]` str, unique.
    store
        Their tokens.
    chromosome
        `[M]` str; empty where no place is known.
    start, end
        `[M]` int64, 0-based and half-open whatever the file said; -1 where no place is known.
    """

    names: np.ndarray
    store: TokenStore
    chromosome: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def placed(self) -> bool:
        """Whether the place of every element is known."""
        return bool((self.start != NO_PLACE).all())

    def take(self, keep: np.ndarray) -> "Elements":
        """Return some elements (indices, ascending); their sequences are copied."""
        parts = [self.store.element(number) for number in keep]
        lengths = self.store.lengths[keep]
        tokens = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8)
        store = TokenStore(tokens, np.cumsum(lengths) - lengths, lengths)
        return Elements(self.names[keep], store, self.chromosome[keep], self.start[keep], self.end[keep])


@dataclass(frozen=True, eq=False)
class Pairs:
    """Labelled pairs.

    Attributes
    ----------
    elements
        What the pairs are made of.
    lines
        Names of the cell lines, sorted.
    line
        `[N]` int64 indices into `lines`.
    enhancer, promoter
        `[N]` int64 indices into `elements`.
    label
        `[N]` int64: 1 interacts, 0 does not.
    distance
        `[N]` float64 bases between the elements; NaN where it is not known. No batch carries it: where negatives were
        drawn farther apart than positives it would give the label away. It is here for the baseline that shows so.
    truth
        What a simulator planted.
    provenance
        Where the pairs come from: plain values.
    """

    elements: Elements
    lines: tuple[str, ...]
    line: np.ndarray
    enhancer: np.ndarray
    promoter: np.ndarray
    label: np.ndarray
    distance: np.ndarray
    truth: Any = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.label.size)

    @property
    def chromosome(self) -> np.ndarray:
        """`[N]` str: chromosome of the promoter, empty where it is not known."""
        chromosome: np.ndarray = self.elements.chromosome[self.promoter]
        return chromosome

    @property
    def units(self) -> pd.DataFrame:
        """One row a pair, in order: `cell_line`, `enhancer`, `promoter` (names) and `chromosome`."""
        return pd.DataFrame(
            {
                "cell_line": np.array(self.lines, dtype=object)[self.line],
                "enhancer": self.elements.names[self.enhancer],
                "promoter": self.elements.names[self.promoter],
                "chromosome": self.chromosome,
            }
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of labels and sequences: no order of pairs or elements moves it."""
        order = self.units.sort_values(KEY, kind="stable").index.to_numpy()
        digest = hashlib.sha256(self.label[order].tobytes())
        for number in np.argsort(self.elements.names, kind="stable"):
            digest.update(self.elements.store.element(int(number)).tobytes() + b"\n")
        return digest.hexdigest()

    def spaced(self, gap: int) -> "Pairs":
        """Return the same pairs, their tokens spaced for windows of up to 2 · gap bases."""
        return replace(self, elements=replace(self.elements, store=self.elements.store.spaced(gap)))

    def take(self, keep: np.ndarray) -> "Pairs":
        """Return some pairs (mask or indices), with the elements and lines that they name."""
        elements, places = np.unique(np.concatenate([self.enhancer[keep], self.promoter[keep]]), return_inverse=True)
        lines, line = np.unique(self.line[keep], return_inverse=True)
        enhancer, promoter = np.split(places, 2)
        return replace(
            self,
            elements=self.elements.take(elements),
            lines=tuple(self.lines[number] for number in lines),
            line=line,
            enhancer=enhancer,
            promoter=promoter,
            label=self.label[keep],
            distance=self.distance[keep],
            truth=None if self.truth is None else self.truth.take(keep, lines),
        )

    def of_lines(self, wanted: list[str] | None) -> "Pairs":
        """Return the pairs of these lines, all of them for None; DataError where a line is unknown."""
        if wanted is None:
            return self
        unknown = [name for name in wanted if name not in self.lines]
        if unknown or not wanted:
            named = unknown[0] if unknown else ""
            raise DataError(
                f"data.lines names the cell line '{named}', which no pair has: {nearest(named, self.lines, 8)}"
            )
        return self.take(np.isin(self.line, [self.lines.index(name) for name in wanted]))


def pair_up(frame: pd.DataFrame, elements: Elements, where: str, provenance: dict[str, Any]) -> Pairs:
    """Make pairs of a table: `cell_line`, `enhancer`, `promoter` (names of elements), `label`, `distance` where known.

    Raises
    ------
    DataError
        On no rows, a missing cell line, a label other than 0 and 1, a pair that stands twice, or an unknown element.
    """
    if frame.empty:
        raise DataError(f"{where} holds no pair: expected at least one row below the header.")
    cell_line = _cell_lines(frame["cell_line"], where)
    label = _labels(frame["label"], where)
    _refuse_double(frame[KEY], label, where)
    number = pd.Series(np.arange(len(elements)), index=elements.names)
    lines, line = np.unique(cell_line.to_numpy(dtype=str), return_inverse=True)
    distance = (
        pd.to_numeric(frame["distance"], errors="coerce") if "distance" in frame else pd.Series(np.nan, frame.index)
    )
    return Pairs(
        elements=elements,
        lines=tuple(lines.tolist()),
        line=line.astype(np.int64),
        enhancer=_numbers(frame["enhancer"], number, where),
        promoter=_numbers(frame["promoter"], number, where),
        label=label,
        distance=distance.to_numpy(dtype=np.float64),
        provenance=provenance,
    )


def _row(frame_or_column: pd.DataFrame | pd.Series, wrong: np.ndarray) -> int:
    """Return the row of the table, counted from 1 below its header, of the first fault."""
    return int(frame_or_column.index[np.flatnonzero(wrong)[0]]) + 1


def _cell_lines(column: pd.Series, where: str) -> pd.Series:
    names = column.astype(str).str.strip()
    wrong = (column.isna() | (names == "")).to_numpy()
    if wrong.any():
        raise DataError(
            f"{where}, row {_row(column, wrong)}: the cell line is missing ({int(wrong.sum())} rows): "
            "name it, or leave the pair out."
        )
    return names


def _labels(column: pd.Series, where: str) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = ~numbers.isin([0, 1]).to_numpy()
    if wrong.any():
        raise DataError(
            f"{where}, row {_row(column, wrong)}: the label is '{column[wrong].iloc[0]}' ({int(wrong.sum())} such "
            "rows): expected 1 (interacts) or 0 (does not); name the column of labels with data.columns.label=..."
        )
    return numbers.to_numpy(dtype=np.int64)


def _refuse_double(keys: pd.DataFrame, label: np.ndarray, where: str) -> None:
    twice = keys.duplicated(keep=False).to_numpy()
    if not twice.any():
        return
    same = (keys == keys[twice].iloc[0]).all(axis=1).to_numpy()
    rows = " and ".join(str(int(number) + 1) for number in keys.index[same][:2])
    also = "with both labels" if len(set(label[same])) > 1 else "with one label"
    first = keys[twice].iloc[0]
    raise DataError(
        f"{where}, rows {rows}: the pair {first['enhancer']} and {first['promoter']} stands more than once in "
        f"{first['cell_line']}, {also} ({int(keys.duplicated().sum())} repeats in all): give each pair one row."
    )


def _numbers(column: pd.Series, number: pd.Series, where: str) -> np.ndarray:
    wrong = ~column.isin(number.index).to_numpy()
    if wrong.any():
        raise DataError(
            f"{where}, row {_row(column, wrong)}: the element '{column[wrong].iloc[0]}' is not among the "
            f"{len(number)} elements ({int(wrong.sum())} such rows): the two files do not belong together."
        )
    return number.loc[column].to_numpy(dtype=np.int64)
