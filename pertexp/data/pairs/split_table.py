"""The split of pairs as a table: one row per pair, one column per fold, with a hash."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError
from pertexp.data.pairs.pairs import KEY, NO_PLACE, Elements, Pairs
from pertexp.data.split_files import canonical_text, require_fold, text_hash, write_table

ROLES = ("train", "val", "test", "excluded")
TRAIN, VAL, TEST, EXCLUDED = range(len(ROLES))
WORDS = np.array(ROLES, dtype=object)


@dataclass(frozen=True, eq=False)
class PairSplit:
    """A split.

    Attributes
    ----------
    units
        One row a pair, in the order of the pairs: `cell_line`, `enhancer`, `promoter`.
    codes
        `[F, N]` int8 indices into `ROLES`.
    names
        `[F]` what each fold tests, in words.
    fold
        The fold to use; not part of the hash.
    leaks
        Whether elements may stand on both sides: such a split shows how much memory is worth, and no more.
    """

    units: pd.DataFrame
    codes: np.ndarray
    names: tuple[str, ...]
    fold: int = 0
    leaks: bool = False

    @property
    def folds(self) -> list[int]:
        """Fold numbers, ascending."""
        return list(range(len(self.codes)))

    @property
    def name(self) -> str:
        """What the fold in use tests."""
        return self.names[self.fold]

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of the canonical CSV text: the order of the pairs does not move it."""
        return text_hash(self.text)

    @property
    def text(self) -> str:
        """Canonical CSV text of `table`."""
        table = self.table
        return canonical_text(table.columns.tolist(), table.astype(object).to_numpy().tolist())

    @property
    def table(self) -> pd.DataFrame:
        """Sorted: `cell_line`, `enhancer`, `promoter`, and a column of roles for every fold: `fold0`, `fold1`, ..."""
        columns = {
            f"fold{number}": pd.Categorical.from_codes(row, pd.Index(ROLES)) for number, row in enumerate(self.codes)
        }
        wide = pd.concat([self.units.reset_index(drop=True), pd.DataFrame(columns)], axis=1)
        return wide.sort_values(KEY, ignore_index=True)

    def role(self, fold: int | None = None) -> np.ndarray:
        """Return roles `[N]`, in the order of the pairs, of one fold (default: the fold to use)."""
        wanted = self.fold if fold is None else fold
        require_fold(wanted, self.folds)
        role: np.ndarray = WORDS[self.codes[wanted]]
        return role

    def roles(self, fold: int | None = None) -> pd.DataFrame:
        """Return the pairs with `fold` and `role` in one fold (default: the fold to use)."""
        return self.units.assign(fold=self.fold if fold is None else fold, role=self.role(fold))

    def write(self, path: str | Path) -> None:
        """Write to `.csv` or `.parquet`; the file appears whole or not at all."""
        write_table(path, self.table, self.text)

    def validate(self, pairs: Pairs) -> "PairSplit":
        """Return the split itself.

        Raises
        ------
        DataError
            Where the fold in use is none, has no training or test pair, or shares an element between sides.
        """
        role = self.role()
        for wanted in ("train", "test"):
            if wanted not in role:
                raise DataError(
                    f"Fold {self.fold} of the split ({self.name}) has no {wanted} pair: type another data.split.fold "
                    "or data.split.line, or another data/split."
                )
        if not self.leaks:
            refuse_shared(pairs, self.codes[self.fold])
        return self


def refuse_shared(pairs: Pairs, codes: np.ndarray) -> None:
    """DataError that names an element, or a place, which stands on both sides."""
    for one, other in ((TEST, TRAIN), (TEST, VAL), (VAL, TRAIN)):
        both = sharing(pairs, codes == one) & (codes == other)
        if both.any():
            row = pairs.units.iloc[int(np.flatnonzero(both)[0])]
            raise DataError(
                f"{int(both.sum())} {ROLES[other]} pairs share an element, or a place on the chromosome, with the "
                f"{ROLES[one]} pairs (for example {row['enhancer']} and {row['promoter']} in {row['cell_line']}): give "
                "all pairs of an element one role, or leave them out."
            )


def exclude_shared(pairs: Pairs, codes: np.ndarray) -> np.ndarray:
    """Assign roles `[N]` so that no training pair shares an element with a held-out one, nor val with test."""
    kept = codes.copy()
    for held in (TEST, VAL):
        kept[sharing(pairs, kept == held) & (kept != held) & (kept != TEST)] = EXCLUDED
    return kept


def sharing(pairs: Pairs, held: np.ndarray) -> np.ndarray:
    """Mark `[N]` the pairs with an element that is, or overlaps, an element of the pairs `held` `[N]`."""
    inside = np.zeros(len(pairs.elements), dtype=bool)
    inside[pairs.enhancer[held]] = inside[pairs.promoter[held]] = True
    touched = touching(pairs.elements, inside)
    shared: np.ndarray = touched[pairs.enhancer] | touched[pairs.promoter]
    return shared


def touching(elements: Elements, inside: np.ndarray) -> np.ndarray:
    """Mark `[M]` the elements that are in the set `inside` `[M]`, or overlap one that is by at least one base.

    Without places, an element with the sequence of one inside is taken for the same under another name.
    """
    found = inside.copy()
    placed = elements.start != NO_PLACE
    elsewhere = np.flatnonzero(~placed)
    texts = [elements.store.element(int(number)).tobytes() for number in elsewhere]
    held_texts = {text for text, number in zip(texts, elsewhere, strict=True) if inside[number]}
    found[elsewhere] = [text in held_texts for text in texts]
    for chromosome in np.unique(elements.chromosome[inside & placed]):
        here = np.flatnonzero((elements.chromosome == chromosome) & placed)
        held = here[inside[here]]
        held = held[np.argsort(elements.start[held], kind="stable")]
        reach = np.maximum.accumulate(elements.end[held])
        before = np.searchsorted(
            elements.start[held], elements.end[here], side="left"
        )  # those that begin before its end
        found[here] |= (before > 0) & (reach[np.maximum(before - 1, 0)] > elements.start[here])
    return found
