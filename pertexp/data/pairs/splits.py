"""Builders of the split table of pairs.

Every builder takes pairs and returns one `PairSplit` over all of its folds. Equal pairs and an equal seed give an equal
table, whatever the order of the rows.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, MismatchError, RequestError, nearest
from pertexp.data.pairs.pairs import KEY, Pairs
from pertexp.data.pairs.split_table import (
    EXCLUDED,
    ROLES,
    TEST,
    TRAIN,
    VAL,
    PairSplit,
    exclude_shared,
)
from pertexp.data.split_files import fold_numbers, read_rows, refuse_unknown_roles

log = logging.getLogger(__name__)

# Chromosomes of the human genome, dealt so that the folds of the enhancer-promoter data are about equally large.
HUMAN = (
    ("1", "8", "20", "X"),
    ("6", "16", "15", "22"),
    ("17", "2", "9", "10", "21"),
    ("12", "3", "5", "4", "18"),
    ("11", "19", "7", "14", "13"),
)


def _human() -> list[list[str]]:
    return [list(fold) for fold in HUMAN]


@dataclass(frozen=True)
class LineAndChromosome:
    """A cell line and chromosomes that were both never seen.

    Test: the held-out line on the chromosomes of the fold. Validation: the other lines on the chromosomes of the next
    fold. Training: the other lines on the rest. All else is excluded. Fold number = line number (sorted) × chromosome
    folds + chromosome fold, so each pair is tested once. With `line`, `fold` counts the chromosome folds of that line.

    Attributes
    ----------
    line
        Name of the held-out line; None: `fold` counts through all lines.
    chromosomes
        Folds of chromosomes, with or without `chr`.
    """

    line: str | None = None
    fold: int = 0
    chromosomes: list[list[str]] = field(default_factory=_human)

    def __call__(self, pairs: Pairs) -> PairSplit:
        """Split the pairs; DataError with one line, an unknown line, or chromosomes in no fold."""
        _require_lines(pairs)
        place = _chromosome_folds(pairs, self.chromosomes)
        n_folds = len(self.chromosomes)
        codes, names = [], []
        for number, line in enumerate(pairs.lines):
            held = pairs.line == number
            for fold in range(n_folds):
                role = np.where(held, EXCLUDED, TRAIN)
                role[~held & (place == (fold + 1) % n_folds)] = VAL
                role[place == fold] = np.where(held, TEST, EXCLUDED)[place == fold]
                codes.append(role)
                names.append(f"{line}, {_said(self.chromosomes[fold])}")
        return _finish(pairs, codes, names, self._fold_of(pairs))

    def _fold_of(self, pairs: Pairs) -> int:
        if self.line is None:
            return self.fold
        if not 0 <= self.fold < len(self.chromosomes):
            raise DataError(
                f"Fold {self.fold} was asked for, a line has chromosome folds 0 to {len(self.chromosomes) - 1}: "
                "type data.split.fold=0."
            )
        return _line_number(pairs, self.line) * len(self.chromosomes) + self.fold


@dataclass(frozen=True)
class Chromosome:
    """Chromosomes that were never seen, in all lines; validation on the chromosomes of the next fold."""

    fold: int = 0
    chromosomes: list[list[str]] = field(default_factory=_human)

    def __call__(self, pairs: Pairs) -> PairSplit:
        """Split the pairs; DataError where chromosomes are not known or in no fold."""
        place = _chromosome_folds(pairs, self.chromosomes)
        n_folds = len(self.chromosomes)
        codes = [
            np.select([place == fold, place == (fold + 1) % n_folds], [TEST, VAL], TRAIN) for fold in range(n_folds)
        ]
        return _finish(pairs, codes, [_said(fold) for fold in self.chromosomes], self.fold)


@dataclass(frozen=True)
class Line:
    """A cell line that was never seen, on chromosomes that were; one fold a line (sorted).

    Lines share promoters and enhancers: pairs of other lines with an element that is, or overlaps, one of the held-out
    line are excluded. `shared="keep"` trains on them, which leaks.

    Attributes
    ----------
    line
        Name of the held-out line; None: that with number `fold`.
    val_fraction
        Validation takes whole chromosomes of the other lines (promoters, where places are not known) up to this share
        of their pairs.
    """

    line: str | None = None
    fold: int = 0
    shared: Literal["exclude", "keep"] = "exclude"
    val_fraction: float = 0.15
    seed: int = 0

    def __call__(self, pairs: Pairs) -> PairSplit:
        """Split the pairs; DataError with one line or an unknown one."""
        _require_lines(pairs)
        codes = []
        for number in range(len(pairs.lines)):
            role = np.where(pairs.line == number, TEST, TRAIN)
            role[_whole_groups(pairs, role == TRAIN, self.val_fraction, [self.seed, number])] = VAL
            codes.append(exclude_shared(pairs, role) if self.shared == "exclude" else role)
        fold = self.fold if self.line is None else _line_number(pairs, self.line)
        if self.line is not None and self.fold not in (0, fold):
            raise RequestError(
                f"data.split.line={self.line} is fold {fold} and data.split.fold={self.fold} was asked for too: "
                "give one of them."
            )
        if self.shared == "keep":
            _warn_of_leak("data.split.shared=keep")
        return _finish(pairs, codes, pairs.lines, fold, leaks=self.shared == "keep")


@dataclass(frozen=True)
class Random:
    """Pairs at random. It leaks: training and test share elements, so a lookup of promoters alone scores high."""

    folds: int = 5
    fold: int = 0
    val_fraction: float = 0.15
    seed: int = 0

    def __call__(self, pairs: Pairs) -> PairSplit:
        """Split the pairs; RequestError with fewer than two folds."""
        _require_pairs(pairs)
        if not 2 <= self.folds <= len(pairs):
            raise RequestError(f"data.split.folds={self.folds} was asked for: expected 2 to {len(pairs)} (the pairs).")
        _share(self.val_fraction)
        _warn_of_leak("data/split=random")
        order = pairs.units.sort_values(KEY).index.to_numpy()
        dealt = np.empty(len(pairs), dtype=np.int64)
        dealt[np.random.default_rng(self.seed).permutation(order)] = np.arange(len(pairs)) % self.folds
        codes = []
        for fold in range(self.folds):
            role = np.where(dealt == fold, TEST, TRAIN)
            rest = np.random.default_rng([self.seed, fold]).permutation(order[role[order] == TRAIN])
            role[rest[: round(self.val_fraction * rest.size)]] = VAL
            codes.append(role)
        return _finish(pairs, codes, [f"random part {fold}" for fold in range(self.folds)], self.fold, leaks=True)


@dataclass(frozen=True)
class PairsTable:
    """The user's own table: `role`, some of `cell_line`, `enhancer`, `promoter`, `chromosome`, and where wanted `fold`.

    A row holds for all pairs that agree with what it names; without `fold` it holds for fold 0. Pairs without a row
    are refused, or excluded with `missing="exclude"`. Elements on both sides are refused, or with `shared` excluded
    from the side that is trained on, or kept, which leaks.
    """

    path: str
    fold: int = 0
    missing: Literal["refuse", "exclude"] = "refuse"
    shared: Literal["refuse", "exclude", "keep"] = "refuse"

    def __call__(self, pairs: Pairs) -> PairSplit:
        """Split the pairs; DataError where the file or its rows do not fit the data."""
        _require_pairs(pairs)
        rows = read_rows(Path(self.path))
        keys = [key for key in [*KEY, "chromosome"] if key in rows]
        if not keys or "role" not in rows or rows.empty:
            raise DataError(
                f"Split table '{self.path}' has columns {', '.join(map(str, rows.columns))} and {len(rows)} rows: give "
                f"role, and one or more of {', '.join([*KEY, 'chromosome'])}."
            )
        refuse_unknown_roles(rows["role"], ROLES)
        rows["fold"] = fold_numbers(rows, self.path)
        self._refuse_double(rows, keys)
        self._refuse_strangers(rows, keys, pairs)
        wanted = sorted(rows["fold"].unique().tolist())
        if wanted != list(range(len(wanted))):
            raise DataError(f"Split table '{self.path}' has folds {wanted}: number them 0, 1, 2, ... without a gap.")
        codes = [self._of_fold(pairs, rows[rows["fold"] == number], keys) for number in wanted]
        if self.shared == "keep":
            _warn_of_leak("data.split.shared=keep")
        return _finish(pairs, codes, [f"fold {n} of the table" for n in wanted], self.fold, leaks=self.shared == "keep")

    def _of_fold(self, pairs: Pairs, rows: pd.DataFrame, keys: list[str]) -> np.ndarray:
        role = pairs.units.merge(rows[[*keys, "role"]], on=keys, how="left")["role"]
        gaps = role.isna()
        if gaps.any() and self.missing == "refuse":
            first = pairs.units[gaps.to_numpy()].iloc[0]
            raise DataError(
                f"Split table '{self.path}' has no row for {int(gaps.sum())} pairs of the data (for example "
                f"{first['enhancer']} and {first['promoter']} in {first['cell_line']}): add them, or type "
                "data.split.missing=exclude."
            )
        codes = role.fillna("excluded").map({word: code for code, word in enumerate(ROLES)}).to_numpy(dtype=np.int64)
        return exclude_shared(pairs, codes) if self.shared == "exclude" else codes

    def _refuse_double(self, rows: pd.DataFrame, keys: list[str]) -> None:
        twice = rows.duplicated([*keys, "fold"], keep=False)
        if twice.any():
            first = rows[twice].iloc[0]
            raise DataError(
                f"Split table '{self.path}' names {', '.join(first[keys])} more than once in fold {first['fold']}: "
                "give it one row."
            )

    def _refuse_strangers(self, rows: pd.DataFrame, keys: list[str], pairs: Pairs) -> None:
        for key in keys:
            known = set(pairs.units[key])
            strange = rows.loc[~rows[key].isin(known), key]
            if len(strange):
                raise DataError(
                    f"Split table '{self.path}' names the {key} '{strange.iloc[0]}', which no pair has "
                    f"({strange.nunique()} such names): {nearest(strange.iloc[0], known)}"
                )


def _finish(
    pairs: Pairs, codes: list[np.ndarray], names: list[str] | tuple[str, ...], fold: int, *, leaks: bool = False
) -> PairSplit:
    split = PairSplit(pairs.units[KEY], np.stack(codes).astype(np.int8), tuple(names), fold, leaks)
    return split.validate(pairs)


def _require_pairs(data: object) -> None:
    if not isinstance(data, Pairs):
        raise MismatchError(
            "This data/split splits pairs, and the data hold a screen: type data/split=unseen_perturbation, "
            "combination, leave_context_out, double or table."
        )


def _require_lines(pairs: Pairs) -> None:
    _require_pairs(pairs)
    if len(pairs.lines) < 2:
        raise DataError(
            f"A cell line can be held out only where there are two or more, and the pairs are of {pairs.lines[0]} "
            "alone: type data/split=chromosome."
        )


def _line_number(pairs: Pairs, line: str) -> int:
    if line not in pairs.lines:
        raise DataError(
            f"data.split.line='{line}' is not among the {len(pairs.lines)} cell lines: {nearest(line, pairs.lines)}"
        )
    return pairs.lines.index(line)


def _chromosome_folds(pairs: Pairs, folds: list[list[str]]) -> np.ndarray:
    """Chromosome fold `[N]` of each pair."""
    _require_pairs(pairs)
    if len(folds) < 3:
        raise RequestError(
            f"data.split.chromosomes has {len(folds)} folds: expected three or more, to test, validate and train on."
        )
    if not pairs.elements.placed:
        raise DataError(
            "The pairs have no chromosomes, so none can be held out: name their places with data.coordinates and "
            "data.columns, or type data/split=line."
        )
    number = {_bare(name): place for place, fold in enumerate(folds) for name in fold}
    bare = pd.Series(pairs.chromosome).map({name: _bare(name) for name in np.unique(pairs.chromosome)})
    strange = bare[~bare.isin(list(number))]
    if len(strange):
        raise DataError(
            f"Chromosome '{strange.iloc[0]}' is in no fold of data.split.chromosomes ({len(strange)} pairs): "
            "add it to one, or leave its pairs out."
        )
    return bare.map(number).to_numpy(dtype=np.int64)


def _bare(chromosome: str) -> str:
    return str(chromosome).removeprefix("chr")


def _said(chromosomes: list[str]) -> str:
    return "chromosomes " + " ".join(_bare(name) for name in chromosomes)


def _share(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise RequestError(f"data.split.val_fraction={fraction} is no share: type a number from 0 to below 1.")


def _whole_groups(pairs: Pairs, among: np.ndarray, fraction: float, seed: list[int]) -> np.ndarray:
    """Mark `[N]` pairs of whole chromosomes (or promoters) drawn until they hold a share of the pairs `among`."""
    _share(fraction)
    group = pairs.chromosome if pairs.elements.placed else pairs.elements.names[pairs.promoter]
    names, number = np.unique(group, return_inverse=True)
    size = np.bincount(number[among], minlength=len(names))
    order = np.random.default_rng(seed).permutation(len(names))
    # A group is drawn while half of it still fits, and the last one never: something is left to train on.
    fits = np.cumsum(size[order]) - size[order] / 2 <= fraction * among.sum()
    drawn = order[fits][: len(names) - 1]
    return among & np.isin(number, drawn)


def _warn_of_leak(what: str) -> None:
    log.warning(
        "%s leaks: elements of the test pairs are trained on, so a score shows memory, not what holds for new "
        "sequence; type data/split=line_and_chromosome for one that does.",
        what,
    )
