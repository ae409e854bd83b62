"""Read pairs from tables on disk and verify them."""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, RequestError, nearest
from pertexp.data.pairs.pairs import NO_PLACE, Elements, Pairs, pair_up
from pertexp.data.pairs.tokens import TokenStore

Counting = Literal["zero_based", "one_based"]
PLACE = ["chrom", "start", "end"]
WINDOW = 200


@dataclass(kw_only=True)
class EpFolder:
    """Enhancer-promoter pairs with hg19 sequence: a folder with `elements.tsv.gz` and `pairs.tsv.gz`.

    Attributes
    ----------
    path
        The folder.
    window
        `full`: whole elements of pairs that are known over 90 % of both; `w200`: the first 200 bases, of more pairs.
    negatives
        `element_matched`: enhancers and promoters of the positives, paired anew; `targetfinder`: those of TargetFinder,
        with `w200` alone, since whole regions of the two classes are covered differently: the length of the known
        sequence alone then gives AUROC 0.68.
    lines
        Cell lines to keep; None keeps all.
    expected
        What to get and from where, said when the folder is absent.
    """

    path: str
    window: Literal["full", "w200"] = "full"
    negatives: Literal["element_matched", "targetfinder"] = "element_matched"
    lines: list[str] | None = None
    expected: str | None = None

    def read(self) -> Pairs:
        """Read and verify; DataError on files that are missing, truncated or of another format."""
        if (self.window, self.negatives) == ("full", "targetfinder"):
            raise RequestError(
                "data.window=full with data.negatives=targetfinder: region length alone gives AUROC 0.68 there, so a "
                "score would say nothing of sequence; type data.negatives=element_matched or data.window=w200."
            )
        pairs_path, elements_path = (Path(self.path) / f"{name}.tsv.gz" for name in ("pairs", "elements"))
        frame = read_table(pairs_path, self.expected)
        need_columns(frame, ["cell_line", "enhancer_id", "promoter_id", "label", "source", "w200", "full"], pairs_path)
        frame = self._chosen(frame).rename(columns={"enhancer_id": "enhancer", "promoter_id": "promoter"})
        pairs = pair_up(frame, self._elements(elements_path, frame), str(pairs_path), self._provenance(pairs_path))
        return pairs.of_lines(self.lines)

    def _chosen(self, frame: pd.DataFrame) -> pd.DataFrame:
        negatives = "targetfinder" if self.negatives == "targetfinder" else f"element_matched_{self.window}"
        positive = (frame["source"] == "targetfinder") & (frame["label"] == "1")
        negative = (frame["source"] == negatives) & (frame["label"] != "1")
        return frame[(positive | negative) & (frame[self.window] == "1")]

    def _elements(self, path: Path, frame: pd.DataFrame) -> Elements:
        table = read_table(path, self.expected)
        need_columns(table, ["element_id", *PLACE, "sequence"], path)
        table = table[table["element_id"].isin(set(frame["enhancer"]) | set(frame["promoter"]))]
        placed = places(table, PLACE, "one_based", path)
        refuse_other_lengths(placed, table["sequence"], "one_based", path)
        if self.window == "w200":
            table = table.assign(sequence=table["sequence"].str[:WINDOW])
        return elements_of(placed.assign(name=table["element_id"], sequence=table["sequence"]), path)

    def _provenance(self, path: Path) -> dict[str, Any]:
        return {
            "file": path.name,
            "sha256": sha256(path),
            "window": self.window,
            "negatives": self.negatives,
            # Pairs made anew from the elements of the positives lie a median 868 kb apart, the positives 212 kb.
            "negatives_drawn_farther": self.negatives == "element_matched",
        }


@dataclass(kw_only=True)
class SequencePairTable:
    """A table of pairs with their two sequences, .tsv or .csv, also gzipped.

    Attributes
    ----------
    path
        The table, with a header.
    columns
        The file's names of our columns: `enhancer_sequence`, `promoter_sequence`, `cell_line`, `label`; where wanted
        `enhancer` and `promoter` (names of elements; without them an element is named after its place, or its
        sequence), `distance`, and of places `chrom`, `enhancer_start`, `enhancer_end`, `promoter_start`,
        `promoter_end`.
    coordinates
        None where the table has no places; `zero_based`: half-open as in BED; `one_based`: inclusive.
    lines
        Cell lines to keep; None keeps all.
    """

    path: str
    columns: dict[str, str | None] = field(default_factory=dict)
    coordinates: Counting | None = None
    lines: list[str] | None = None

    def read(self) -> Pairs:
        """Read and verify; every fault is one sentence that names the row."""
        return self._verified(self._table(self.columns), Path(self.path)).of_lines(self.lines)

    def read_unlabelled(self) -> Pairs:
        """Do the same without looking at labels, which need not be there: every label is 0, and means nothing."""
        columns = {ours: theirs for ours, theirs in self.columns.items() if ours != "label"}
        return self._verified(self._table(columns).assign(label="0"), Path(self.path)).of_lines(self.lines)

    def _table(self, columns: Mapping[str, str | None]) -> pd.DataFrame:
        path = Path(self.path)
        return renamed(read_table(path, "type data.path=/path/to/pairs.tsv"), columns, path)

    def _verified(self, frame: pd.DataFrame, path: Path) -> Pairs:
        need_columns(frame, ["enhancer_sequence", "promoter_sequence", "cell_line", "label"], path)
        sides = [self._side(frame, side, path) for side in ("enhancer", "promoter")]
        frame = frame.assign(enhancer=sides[0]["name"], promoter=sides[1]["name"])
        if self.coordinates is not None and "distance" not in frame:
            frame = frame.assign(distance=gap_between(*sides))
        provenance = {"file": path.name, "sha256": sha256(path), "coordinates": self.coordinates}
        elements = elements_of(pd.concat(sides, ignore_index=True), path)
        return pair_up(frame, elements, str(path), provenance)

    def _side(self, frame: pd.DataFrame, side: str, path: Path) -> pd.DataFrame:
        """Name, place and sequence of one element a row."""
        sequence = frame[f"{side}_sequence"].str.strip().str.upper()
        _refuse_empty(sequence, side, path)
        if self.coordinates is None:
            unknown = pd.DataFrame({"chrom": "", "start": NO_PLACE, "end": NO_PLACE}, index=frame.index)
            names = sequence.map({text: f"seq:{digest(text)}" for text in sequence.unique()})
            placed = unknown
        else:
            columns = ["chrom", f"{side}_start", f"{side}_end"]
            need_columns(frame, columns, path)
            placed = places(frame, columns, self.coordinates, path)
            refuse_other_lengths(placed, sequence, self.coordinates, path)
            names = named_after_place(placed)
        return placed.assign(name=frame.get(side, names), sequence=sequence)


def read_table(path: Path, expected: str | None = None) -> pd.DataFrame:
    """Return a table as text, no value guessed; DataError where it is missing, empty, truncated or no table."""
    if not path.is_file():
        raise DataError(f"no file {path}: {expected or 'check its place'}")
    separator = "," if ".csv" in path.suffixes else "\t"
    try:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except (OSError, ValueError, EOFError, zlib.error) as fault:
        raise DataError(
            f"{path} cannot be read as a table ({type(fault).__name__}: {' '.join(str(fault).split())[:120]}): "
            "it may be truncated or another format; fetch it again, or write it as .tsv, .csv or .tsv.gz with a header."
        ) from fault


def need_columns(frame: pd.DataFrame, columns: list[str], path: Path) -> None:
    """DataError that names the first column which is not there."""
    lacking = [column for column in columns if column not in frame]
    if lacking:
        raise DataError(
            f"{path} has no column '{lacking[0]}' ({', '.join(map(str, frame.columns[:12]))}): "
            f"{nearest(lacking[0], frame.columns)}; name the file's own with data.columns.{lacking[0]}=..."
        )


def renamed(frame: pd.DataFrame, columns: Mapping[str, str | None], path: Path) -> pd.DataFrame:
    """Return the table under our names of its columns; DataError where it lacks one that was named."""
    given = {ours: theirs for ours, theirs in columns.items() if theirs is not None and theirs != ours}
    for ours, theirs in given.items():
        if theirs not in frame:
            raise DataError(f"{path} has no column '{theirs}' (data.columns.{ours}): {nearest(theirs, frame.columns)}")
    return frame.drop(columns=[ours for ours in given if ours in frame]).rename(
        columns={theirs: ours for ours, theirs in given.items()}
    )


def places(frame: pd.DataFrame, columns: list[str], counting: Counting, path: Path) -> pd.DataFrame:
    """`chrom`, `start`, `end`, 0-based and half-open, from columns that count as `counting` says.

    Raises
    ------
    DataError
        On numbers that are none, that lie before the chromosome's first base, or on an end before its start.
    """
    chrom, first, last = columns
    numbers = frame[[first, last]].apply(pd.to_numeric, errors="coerce")
    start = numbers[first] - (1 if counting == "one_based" else 0)
    wrong = (
        numbers.isna().any(axis=1) | (numbers % 1 != 0).any(axis=1) | (start < 0) | (numbers[last] <= start)
    ).to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        said = "whole numbers from 0, the end after the start" if counting == "zero_based" else "whole numbers from 1"
        raise DataError(
            f"{path}, row {int(frame.index[row]) + 1}: {first} '{frame[first].iloc[row]}' and {last} "
            f"'{frame[last].iloc[row]}' are no place on a chromosome ({int(wrong.sum())} such rows): expected {said} "
            f"({counting} coordinates)."
        )
    return pd.DataFrame(
        {"chrom": frame[chrom].str.strip(), "start": start.astype(int), "end": numbers[last].astype(int)}
    )


def named_after_place(placed: pd.DataFrame) -> pd.Series:
    """Return names such as `chr1:840352-840555`, counted as in BED."""
    return placed["chrom"] + ":" + placed["start"].astype(str) + "-" + placed["end"].astype(str)


def gap_between(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """Bases between two places, 0 where they touch or overlap."""
    return (other["start"] - one["end"]).clip(lower=one["start"] - other["end"]).clip(lower=0)


def refuse_other_lengths(placed: pd.DataFrame, sequence: pd.Series, counting: Counting, path: Path) -> None:
    """DataError where a place has another length than the sequence in its row, as with a wrong way of counting."""
    length = (placed["end"] - placed["start"]).to_numpy()
    wrong = length != sequence.str.len().to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}, row {int(sequence.index[row]) + 1}: the place is {length[row]} bases long, its sequence "
            f"{len(sequence.iloc[row])} ({int(wrong.sum())} such rows): check that coordinates are {counting} "
            "(data.coordinates), and of the build that the sequence was cut from."
        )


def elements_of(rows: pd.DataFrame, path: Path) -> Elements:
    """Take each element once, of rows `name`, `chrom`, `start`, `end`, `sequence`; DataError where two differ."""
    distinct = rows.drop_duplicates(["name", *PLACE, "sequence"]).sort_values("name", ignore_index=True)
    twice = distinct.loc[distinct["name"].duplicated(), "name"]
    if len(twice):
        raise DataError(
            f"{path}: the element '{twice.iloc[0]}' stands with two places or sequences ({len(twice)} such elements): "
            "give each element one name, one sequence."
        )
    names = distinct["name"].to_numpy(dtype=str)
    return Elements(
        names=names,
        store=TokenStore.of(distinct["sequence"].tolist(), [f"{name} ({path})" for name in names]),
        chromosome=distinct["chrom"].to_numpy(dtype=str),
        start=distinct["start"].to_numpy(dtype=np.int64),
        end=distinct["end"].to_numpy(dtype=np.int64),
    )


def digest(text: str) -> str:
    """Return twelve hex digits of a sequence: its name where it has no other."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sha256(path: Path) -> str:
    """SHA-256, in hex, of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_empty(sequence: pd.Series, side: str, path: Path) -> None:
    empty = (sequence == "").to_numpy()
    if empty.any():
        raise DataError(
            f"{path}, row {int(sequence.index[np.flatnonzero(empty)[0]]) + 1}: the {side} sequence is empty "
            f"({int(empty.sum())} such rows): expected at least one base; leave the pair out."
        )
