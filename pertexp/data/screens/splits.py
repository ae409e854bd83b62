"""Builders of the split table of screens.

A unit is a perturbation in a context. Every builder takes the distinct units of a screen (a frame with the
columns `perturbation`, `context`, `n_cells`, control rows included) and returns one `SplitTable` over all of
its folds. Equal units and an equal seed give an equal table, whatever the order of the rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, MismatchError, RequestError, nearest
from pertexp.data.screens.control_split import ControlSplit
from pertexp.data.screens.screen import CONTROL, members
from pertexp.data.screens.split_table import (
    COLUMNS,
    HELD_OUT,
    NOT_TESTED,
    UNIT,
    SplitTable,
    canonical_names,
    listed,
    refuse_double_rows,
)
from pertexp.data.screens.training_subset import S, Split, TrainingSubset, excluding_the_rest
from pertexp.data.split_files import fold_numbers, read_rows

Roles = dict[str, str]
T = TypeVar("T")


def _on_a_subset(split: Split[S]) -> Split[S]:
    """Let a split train on `n_train` perturbations alone, where it is asked to."""

    @wraps(split)
    def limited(self: S, units: pd.DataFrame) -> SplitTable:
        found = split(self, units)
        if self.n_train is None:
            return found
        return _finish(excluding_the_rest(found.table, self.n_train, self.seed), found.fold, found.controls)

    return limited


@dataclass(frozen=True)
class ControlsHeldOut:
    """What the builders have in common: which control cells are held out."""

    controls: ControlSplit = field(default_factory=ControlSplit, kw_only=True)


@dataclass(frozen=True)
class UnseenPerturbation(TrainingSubset, ControlsHeldOut):
    """K-fold over perturbations: each, in all contexts, is the test set of exactly one fold.

    A held-out gene is unseen in every form: where the single `A` is tested, training and validation
    combinations with `A` are excluded, and so are training combinations with a validated single.
    """

    folds: int = 5
    val_fraction: float = 0.15
    seed: int = 0
    fold: int = 0

    @_on_a_subset
    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """Split the units; DataError with fewer perturbations than folds."""
        units = _distinct(units)
        names = _perturbed(units)["perturbation"].unique().tolist()
        held = _deal(names, self.folds, self.seed, "perturbations")
        roles = [
            _hold_out(names, test, self.val_fraction, _generator(self.seed, number)) for number, test in enumerate(held)
        ]
        return _assemble(units, [_spread(units, one) for one in roles], self.fold, self.controls)


@dataclass(frozen=True)
class Combination(TrainingSubset, ControlsHeldOut):
    """K-fold over combinations; singles are trained on, validation units are drawn from the other combinations.

    `seen=None` hides nothing: every combination is tested once and the `seen` column says what it met.
    `seen=k` tests a combination with exactly k of its members seen: k members that were also perturbed alone
    stay, the others are hidden, that is, every other unit with a hidden member is excluded in that fold.
    Combinations for which k members cannot be kept are not tested (they are trained on where they hold no
    hidden member), nor are those whose hidden and kept members contradict another's of their fold (excluded).
    """

    folds: int = 5
    seen: int | None = None
    val_fraction: float = 0.15
    seed: int = 0
    fold: int = 0

    @_on_a_subset
    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """Split the units; DataError without (enough) combinations that fit `seen`."""
        units = _distinct(units)
        names = _perturbed(units)["perturbation"].unique().tolist()
        held = _deal(self._testable(names), self.folds, self.seed, self._kind())
        roles = [self._roles(names, test, number) for number, test in enumerate(held)]
        return _assemble(units, [_spread(units, one) for one in roles], self.fold, self.controls)

    def _kind(self) -> str:
        kept = "" if self.seen is None else f" with at least {self.seen} members perturbed alone"
        return f"combinations{kept}"

    def _testable(self, names: list[str]) -> list[str]:
        if self.seen not in (None, 0, 1, 2):
            raise RequestError(f"data.split.seen={self.seen} is not known: type 0, 1, 2 or null.")
        combinations = [name for name in names if len(members(name)) > 1]
        if not combinations:
            raise DataError(
                f"None of the {len(names)} perturbations is a combination (as in 'A+B'): "
                "type data/split=unseen_perturbation, or name what joins members in data.separator."
            )
        alone = set(names)
        return [name for name in combinations if len(alone & set(members(name))) >= (self.seen or 0)]

    def _roles(self, names: list[str], test: list[str], number: int) -> Roles:
        rng = _generator(self.seed, number)
        hidden, contradicted = self._hide(test, set(names), rng)
        roles = dict.fromkeys(names, "train")
        roles |= dict.fromkeys(_containing(names, hidden), "excluded")
        roles |= dict.fromkeys(test, "test") | dict.fromkeys(contradicted, "excluded")
        rest = [name for name in _with_role(roles, "train") if len(members(name)) > 1]
        return roles | dict.fromkeys(_carve(rest, self.val_fraction, rng), "val")

    def _hide(self, test: list[str], alone: set[str], rng: np.random.Generator) -> tuple[set[str], list[str]]:
        """Choose the members to hide: one choice is reused where it can be, so that little is excluded."""
        hidden: set[str] = set()
        kept: set[str] = set()
        contradicted: list[str] = []
        if self.seen is None:
            return hidden, contradicted
        for name in test:
            keep = self._keep(members(name), hidden, kept, alone, rng)
            if keep is None:
                contradicted.append(name)
                continue
            kept |= keep
            hidden |= set(members(name)) - keep
        return hidden, contradicted

    def _keep(
        self,
        genes: tuple[str, ...],
        hidden: set[str],
        kept: set[str],
        alone: set[str],
        rng: np.random.Generator,
    ) -> set[str] | None:
        """Choose the members of a combination that stay seen; None where earlier choices forbid it."""
        shuffled = [genes[place] for place in rng.permutation(len(genes))]
        free = [gene for gene in shuffled if gene in alone and gene not in hidden]
        keep = set(sorted(free, key=lambda gene: gene not in kept)[: self.seen])
        fits = len(keep) == self.seen and not (set(genes) - keep) & kept
        return keep if fits else None


@dataclass(frozen=True)
class LeaveContextOut(TrainingSubset, ControlsHeldOut):
    """One fold per context (sorted): its perturbed units are the test set, all others train.

    Control cells of the held-out context keep the role `control`: they are an input at prediction time, as in
    a new cell line whose unperturbed state is known; what is learnt from data takes training contexts alone.
    Contexts that hold controls only make no fold. `context` names the fold to use; validation units are drawn
    at random from those of the other contexts.
    """

    context: str | None = None
    val_fraction: float = 0.15
    seed: int = 0
    fold: int = 0

    @_on_a_subset
    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """Split the units; DataError with fewer than two contexts or an unknown one."""
        units = _distinct(units)
        contexts = _contexts(units)
        roles = [self._roles(units, context, number) for number, context in enumerate(contexts)]
        return _assemble(units, roles, self._fold_of(contexts), self.controls)

    def _roles(self, units: pd.DataFrame, context: str, number: int) -> pd.Series:
        roles = pd.Series(np.where(units["context"] == context, "test", "train"), dtype=object)
        roles[units["perturbation"] == CONTROL] = "control"
        rest = roles.index[roles == "train"].tolist()
        roles[_carve(rest, self.val_fraction, _generator(self.seed, number))] = "val"
        return roles

    def _fold_of(self, contexts: list[str]) -> int:
        if self.context is None:
            return self.fold
        if self.context not in contexts:
            raise DataError(
                f"data.split.context='{self.context}' is not among the {len(contexts)} contexts with "
                f"perturbed cells: {nearest(self.context, contexts)}"
            )
        number = contexts.index(self.context)
        if self.fold not in (0, number):
            raise RequestError(
                f"data.split.context={self.context} is fold {number} and data.split.fold={self.fold} "
                "was asked for too: give one of them."
            )
        return number


@dataclass(frozen=True)
class DoubleHoldOut(TrainingSubset, ControlsHeldOut):
    """Perturbation fold × context: test = held-out perturbations in the held-out context.

    Training units are other perturbations in other contexts; all else is excluded. Fold number = context
    number (sorted) × `folds` + perturbation fold; the perturbations of the held-out context are dealt into
    `folds` parts, so that each perturbed unit is tested exactly once. Controls as in `LeaveContextOut`,
    held-out genes as in `UnseenPerturbation`.
    """

    folds: int = 5
    val_fraction: float = 0.15
    seed: int = 0
    fold: int = 0

    @_on_a_subset
    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """Split the units; DataError with one context, or fewer perturbations than folds in one."""
        units = _distinct(units)
        roles = [role for context in _contexts(units) for role in self._of_context(units, context)]
        return _assemble(units, roles, self.fold, self.controls)

    def _of_context(self, units: pd.DataFrame, context: str) -> list[pd.Series]:
        perturbed = _perturbed(units)
        inside = perturbed["context"] == context
        here = perturbed.loc[inside, "perturbation"].tolist()
        elsewhere = set(perturbed.loc[~inside, "perturbation"])
        held = _deal(here, self.folds, self.seed, f"perturbations in context '{context}'")
        return [self._cross(units, context, self._by_name(elsewhere, test, number)) for number, test in enumerate(held)]

    def _by_name(self, elsewhere: set[str], test: list[str], number: int) -> Roles:
        names = sorted(elsewhere | set(test))
        return _hold_out(names, test, self.val_fraction, _generator(self.seed, number))

    @staticmethod
    def _cross(units: pd.DataFrame, context: str, by_name: Roles) -> pd.Series:
        roles = _spread(units, by_name).fillna("excluded")
        crossed = (roles == "test") == (units["context"] == context)
        return roles.where(crossed | (roles == "control"), "excluded")


@dataclass(frozen=True)
class GearsSimulation(TrainingSubset, ControlsHeldOut):
    """The simulation split of GEARS: a share of the perturbed genes is known, all that touches another gene is tested.

    Tested are singles of unknown genes, combinations with 0 or 1 known genes, and a share of those with 2. Validation
    is carved from the rest by the same rule at `val_fraction`. Fold f uses seed + f: folds are repeated draws, they do
    not test each unit once. The legacy generator of NumPy is used as cell-gears uses it, so that files whose
    combinations are written in sorted order get the very split of cell-gears 0.1.2 with that seed.

    The column `seen` counts members that occur in a training unit: a member that went to validation does not count.
    """

    train_gene_fraction: float = 0.75
    seen2_train_fraction: float = 0.75
    val_fraction: float = 0.1
    folds: int = 5
    seed: int = 1
    fold: int = 0

    @_on_a_subset
    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """Split the units; RequestError where a fraction is none."""
        for name in ("train_gene_fraction", "seen2_train_fraction", "val_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise RequestError(f"data.split.{name}={getattr(self, name)} is no share: type a number from 0 to 1.")
        if self.folds < 1:
            raise RequestError(f"data.split.folds={self.folds}: expected at least one draw.")
        units = _distinct(units)
        names = _perturbed(units)["perturbation"].unique().tolist()
        roles = [_spread(units, self._roles(names, self.seed + number)) for number in range(self.folds)]
        return _assemble(units, roles, self.fold, self.controls)

    def _roles(self, names: list[str], seed: int) -> Roles:
        rest = self._known(names, self.train_gene_fraction, self.seen2_train_fraction, seed)
        train = self._known(rest, 1 - self.val_fraction, 1 - self.val_fraction, seed)
        return dict.fromkeys(names, "test") | dict.fromkeys(rest, "val") | dict.fromkeys(train, "train")

    @staticmethod
    def _known(names: list[str], gene_share: float, pair_share: float, seed: int) -> list[str]:
        """Return what stays: singles of the known genes, and a share of the combinations of known genes alone."""
        genes = np.unique([gene for name in names for gene in members(name)])
        known = set(np.random.RandomState(seed).choice(genes, int(len(genes) * gene_share), replace=False).tolist())
        inside = [name for name in names if known.issuperset(members(name))]
        pairs = np.array(sorted(name for name in inside if len(members(name)) > 1), dtype=object)
        kept = np.random.RandomState(seed).choice(pairs, int(len(pairs) * pair_share), replace=False)
        combinations: list[str] = kept.tolist()
        return [name for name in inside if len(members(name)) == 1] + combinations


@dataclass(frozen=True)
class UserTable(TrainingSubset, ControlsHeldOut):
    """The user's own table: `perturbation`, `role`, and where wanted `context` and `fold`.

    Without `context` a row holds for all contexts, without `fold` for fold 0. Names are read as sets (`B+A`
    and `A+B+ctrl` are `A+B`). Controls without a row are `control`; perturbed units without one are refused,
    or `excluded` with `missing="exclude"`. Rows of held-out controls are passed over: `controls` draws them. `seed`
    draws nothing but the perturbations that `n_train` keeps.
    """

    path: str
    fold: int = 0
    missing: Literal["refuse", "exclude"] = "refuse"
    seed: int = 0

    @_on_a_subset
    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """Split the units; DataError where the file or its rows do not fit the data."""
        units = _distinct(units)
        rows = self._read()
        keys = [key for key in ["perturbation", "context"] if key in rows]
        refuse_double_rows(rows)
        rows["perturbation"] = canonical_names(rows["perturbation"])
        self._refuse_unknown(rows, units, keys)
        wide = units.merge(pd.DataFrame({"fold": sorted(rows["fold"].unique())}), how="cross")
        table = wide.merge(rows, on=[*keys, "fold"], how="left")
        table["role"] = table["role"].mask(table["role"].isna() & (table["perturbation"] == CONTROL), "control")
        return _finish(self._without_gaps(table), self.fold, self.controls)

    def _read(self) -> pd.DataFrame:
        rows = read_rows(Path(self.path))
        lacking = [column for column in ("perturbation", "role") if column not in rows]
        if lacking or rows.empty:
            what = f"no column {' and '.join(lacking)}" if lacking else "no rows"
            raise DataError(
                f"Split table '{self.path}' has {what} (columns found: {', '.join(map(str, rows.columns))}): "
                "give perturbation and role, and where wanted context and fold."
            )
        rows["fold"] = fold_numbers(rows, self.path)
        rows = rows[rows["role"] != HELD_OUT]  # of a table that a run wrote; data.split.controls says which they are
        return rows[[column for column in COLUMNS if column in rows and column != "seen"]]

    def _refuse_unknown(self, rows: pd.DataFrame, units: pd.DataFrame, keys: list[str]) -> None:
        known = pd.MultiIndex.from_frame(units[keys])
        given = pd.MultiIndex.from_frame(rows[keys])
        strangers = rows.loc[~given.isin(known), keys].drop_duplicates()
        if len(strangers):
            name = str(strangers["perturbation"].iloc[0])
            raise DataError(
                f"Split table '{self.path}' names {len(strangers)} units that are not in the data "
                f"({listed(strangers)}; for '{name}' {nearest(name, units['perturbation'])}): remove these "
                f"rows, or spell them as the data do; control cells are called '{CONTROL}' here."
            )

    def _without_gaps(self, table: pd.DataFrame) -> pd.DataFrame:
        gaps = table["role"].isna()
        if gaps.any() and self.missing == "refuse":
            raise DataError(
                f"Split table '{self.path}' has no row for {int(gaps.sum())} units of the data "
                f"({listed(table.loc[gaps, UNIT])}): add them, or type data.split.missing=exclude."
            )
        return table.assign(role=table["role"].mask(gaps, "excluded"))


@dataclass(frozen=True)
class NamedTest(ControlsHeldOut):
    """One fold whose test units are those of the named perturbations; the others train.

    A held-out gene is unseen in every form, as in `UnseenPerturbation`.
    """

    test: tuple[str, ...]
    val_fraction: float = 0.15
    seed: int = 0

    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """Split the units; DataError where no perturbation is left to train on."""
        units = _distinct(units)
        names = _perturbed(units)["perturbation"].unique().tolist()
        test = [name for name in names if name in set(self.test)]
        roles = _hold_out(names, test, self.val_fraction, _generator(self.seed, 0))
        return _assemble(units, [_spread(units, roles)], 0, self.controls)


@dataclass(frozen=True)
class AtFold:
    """Another builder's split, with this fold in use."""

    split: Callable[[pd.DataFrame], SplitTable]
    fold: int

    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """Split the units, and use the fold."""
        return replace(self.split(units), fold=self.fold)


def controls_of(split: Callable[[pd.DataFrame], SplitTable]) -> ControlSplit:
    """Return which controls a builder holds out; a builder of another package holds out the default."""
    return split.controls if isinstance(split, ControlsHeldOut) else ControlSplit()


def _distinct(units: pd.DataFrame) -> pd.DataFrame:
    """Sort the distinct units, so that no draw depends on the order of rows."""
    if not isinstance(units, pd.DataFrame):
        raise MismatchError(
            "This data/split splits the perturbations of a screen, and the data hold pairs: type "
            "data/split=line_and_chromosome, chromosome, line, random or pairs_table."
        )
    lacking = [column for column in UNIT if column not in units]
    if lacking:
        raise DataError(
            f"The units have no column {' and '.join(lacking)} (found: {', '.join(units.columns)}): "
            "give one row per perturbation and context."
        )
    plain = pd.DataFrame({column: units[column].astype(str).to_numpy(dtype=object) for column in UNIT})
    return plain.drop_duplicates().sort_values(UNIT, ignore_index=True)


def _perturbed(units: pd.DataFrame) -> pd.DataFrame:
    return units[units["perturbation"] != CONTROL]


def _contexts(units: pd.DataFrame) -> list[str]:
    contexts = sorted(_perturbed(units)["context"].unique().tolist())
    if len(contexts) < 2:
        found = f" ('{contexts[0]}')" if contexts else ""
        raise DataError(
            f"A context can be held out only where two or more have perturbed cells, and the data have "
            f"{len(contexts)}{found}: name the column of cell lines or types with data.context_key=..."
        )
    return contexts


def _generator(seed: int, fold: int) -> np.random.Generator:
    return np.random.default_rng([seed, fold])


def _deal(things: Sequence[str], folds: int, seed: int, kind: str) -> list[list[str]]:
    """Deal the things into parts whose sizes differ by one at most."""
    if folds < 2:
        raise RequestError(f"data.split.folds={folds} leaves nothing to train on: type data.split.folds=3.")
    if len(things) < folds:
        remedy = f"type data.split.folds={len(things)}" if len(things) > 1 else "choose another data/split"
        raise DataError(
            f"A split into {folds} folds needs at least {folds} units to deal out, and the data have "
            f"{len(things)} {kind}: {remedy}."
        )
    shuffled = [things[place] for place in np.random.default_rng(seed).permutation(len(things))]
    return [shuffled[number::folds] for number in range(folds)]


def _carve(rest: Sequence[T], fraction: float, rng: np.random.Generator) -> list[T]:
    """Draw validation things: a share of the rest, at least one of four or more, never all."""
    if not 0 <= fraction < 1:
        raise RequestError(f"data.split.val_fraction={fraction} is no share: type a number from 0 to below 1.")
    at_least = 1 if fraction > 0 and len(rest) >= 4 else 0
    count = min(max(round(fraction * len(rest)), at_least), max(len(rest) - 1, 0))
    return [rest[place] for place in rng.permutation(len(rest))[:count]]


def _hold_out(names: list[str], test: list[str], fraction: float, rng: np.random.Generator) -> Roles:
    """Assign roles per perturbation; combinations that would show a held-out single are excluded."""
    roles = dict.fromkeys(names, "train")
    roles |= dict.fromkeys(_containing(names, set(test)), "excluded")
    roles |= dict.fromkeys(test, "test")
    val = _carve(_with_role(roles, "train"), fraction, rng)
    leaking = _containing(_with_role(roles, "train"), set(val))
    return roles | dict.fromkeys(leaking, "excluded") | dict.fromkeys(val, "val")


def _containing(names: Iterable[str], genes: set[str]) -> list[str]:
    return [name for name in names if not genes.isdisjoint(members(name))]


def _with_role(roles: Mapping[str, str], role: str) -> list[str]:
    return [name for name, given in roles.items() if given == role]


def _spread(units: pd.DataFrame, roles: Roles) -> pd.Series:
    return units["perturbation"].map(roles | {CONTROL: "control"})


def _assemble(units: pd.DataFrame, roles: list[pd.Series], fold: int, controls: ControlSplit) -> SplitTable:
    parts = [units[UNIT].assign(fold=number, role=role) for number, role in enumerate(roles)]
    return _finish(pd.concat(parts, ignore_index=True), fold, controls)


def _finish(table: pd.DataFrame, fold: int, controls: ControlSplit) -> SplitTable:
    """Count what the test units have seen, and refuse a table that is not a split."""
    counted = pd.concat([rows.assign(seen=_seen(rows)) for _, rows in table.groupby("fold")])
    return SplitTable(counted, fold, controls).validate()


def _seen(rows: pd.DataFrame) -> list[int]:
    trained = {gene for name in rows.loc[rows["role"] == "train", "perturbation"] for gene in members(name)}
    return [
        len(trained & set(members(name))) if role == "test" else NOT_TESTED
        for name, role in zip(rows["perturbation"], rows["role"], strict=True)
    ]
