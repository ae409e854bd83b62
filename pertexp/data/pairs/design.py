"""Pairs with their roles, and the support set that describes a held-out cell line to a model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pertexp.config.errors import DataError
from pertexp.data.pairs.pairs import Pairs
from pertexp.data.pairs.split_table import PairSplit
from pertexp.runs.documents import plain
from pertexp.runs.schema import PairRecord

Splitter = Callable[[Pairs], PairSplit]


@dataclass(frozen=True, eq=False)
class PairDesign:
    """Pairs and their split.

    Attributes
    ----------
    pairs
        All pairs, excluded ones too.
    split
        Its fold in use gives the roles.
    support_size, support_seed
        Pairs of a support set, and the seed of those that are not drawn in training.
    notes
        What a reader of the result should know.
    """

    pairs: Pairs
    split: PairSplit
    support_size: int = 32
    support_seed: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def role(self) -> np.ndarray:
        """`[N]` train, val, test or excluded."""
        return self.split.role()

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of the cell lines."""
        return self.pairs.lines

    @cached_property
    def train_lines(self) -> np.ndarray:
        """Numbers, ascending, of the lines with training pairs: the classes of whatever tells lines apart."""
        return np.unique(self.pairs.line[self.index("train")])

    def index(self, role: str) -> np.ndarray:
        """Return pairs `[n]` with this role, support pairs of unseen lines included."""
        return np.flatnonzero(self.role == role)

    def support(self, role: str, draw: int = 0) -> dict[int, np.ndarray]:
        """Return a support set `[S]` for every line of a role, unlabelled, drawn with the fixed seed.

        A line that was trained on is described by training pairs. An unseen line is described by pairs of the role
        itself, which `scored` leaves out. Other numbers of `draw` give other sets, to see what the choice is worth.

        Raises
        ------
        DataError
            Where an unseen line has too few pairs.
        """
        index = self.index(role)
        chosen = {}
        for number in np.unique(self.pairs.line[index]).tolist():
            own = self._source(index, number)
            if own.size < self.support_size or (not self._known(number) and own.size == self.support_size):
                raise DataError(
                    f"Cell line {self.lines[number]} has {own.size} {role} pairs, too few for a support set of "
                    f"{self.support_size} and pairs to score as well: type a smaller data.support_size."
                )
            rng = np.random.default_rng([self.support_seed, draw, number])
            chosen[number] = np.sort(rng.choice(own, self.support_size, replace=False))
        return chosen

    def scored(self, role: str, draw: int = 0) -> np.ndarray:
        """Return pairs `[n]` of a role without those that the support sets of unseen lines took."""
        index = self.index(role)
        taken = [rows for rows in self.support(role, draw).values() if rows.size]
        return np.setdiff1d(index, np.concatenate(taken)) if taken else index

    def permuted_support(self, role: str, draw: int = 0) -> dict[int, np.ndarray]:
        """For every line of a role a support set `[S]` of another line, one that was trained on, drawn with the seed.

        Empty where no line has another one with enough training pairs.
        """
        train = self.index("train")
        sizes = {number: int((self.pairs.line[train] == number).sum()) for number in self.train_lines.tolist()}
        chosen = {}
        for number in np.unique(self.pairs.line[self.index(role)]).tolist():
            others = [other for other, size in sizes.items() if other != number and size >= self.support_size]
            if not others:
                return {}
            rng = np.random.default_rng([self.support_seed, draw, number, 1])
            own = train[self.pairs.line[train] == rng.choice(others)]
            chosen[number] = np.sort(rng.choice(own, self.support_size, replace=False))
        return chosen

    def schema(self) -> dict[str, Any]:
        """Return what a model that was trained here needs to be used elsewhere: plain values."""
        return {
            "lines": list(self.lines),
            "train_lines": [self.lines[number] for number in self.train_lines],
            "pairs_hash": self.pairs.hash,
            "split_hash": self.split.hash,
            "fold": self.split.fold,
        }

    def record(self) -> PairRecord:
        """Return what the pairs are, for the record of a run."""
        return PairRecord(
            task="pairs",
            split_hash=self.split.hash,
            fold=self.split.fold,
            notes=plain({**self.pairs.provenance, "said": list(self.notes)}),
            pairs=len(self.pairs),
            elements=len(self.pairs.elements),
            lines=list(self.lines),
            tests=self.split.name,
            pairs_by_role={str(role): int((self.role == role).sum()) for role in sorted(set(self.role))},
        )

    def _known(self, number: int) -> bool:
        return bool((self.train_lines == number).any())

    def _source(self, index: np.ndarray, number: int) -> np.ndarray:
        among = self.index("train") if self._known(number) else index
        source: np.ndarray = among[self.pairs.line[among] == number]
        return source


def build_design(pairs: Pairs, splitter: Splitter, *, gap: int, support_size: int, support_seed: int) -> PairDesign:
    """Split the pairs, and space their tokens for windows of up to 2 · gap bases.

    Raises
    ------
    DataError
        From the split, and where the training pairs have one label alone.
    """
    split = splitter(pairs)
    trained = np.unique(pairs.label[split.role() == "train"])
    if trained.size < 2:
        raise DataError(
            f"All training pairs of fold {split.fold} ({split.name}) have the label {trained[0]}: "
            "expected both, type another data.split.fold."
        )
    pairs = pairs.spaced(gap)
    return PairDesign(pairs, split, support_size, support_seed, tuple(_notes(pairs, split)))


def _notes(pairs: Pairs, split: PairSplit) -> list[str]:
    notes = []
    role = split.role()
    excluded = int((role == "excluded").sum())
    if excluded:
        notes.append(f"{excluded} of {len(pairs)} pairs have no role in this fold ({split.name})")
    if split.leaks:
        notes.append("elements of the test pairs are trained on: scores of this split show memory")
    if "val" not in role:
        notes.append("the split has no validation pairs")
    return notes
