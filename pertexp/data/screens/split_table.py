"""The split of a screen as a table: the role of every unit in every fold, with a hash."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError
from pertexp.data.screens.control_split import ControlSplit
from pertexp.data.screens.labels import canonical_name
from pertexp.data.screens.screen import CONTROL
from pertexp.data.split_files import canonical_text, refuse_unknown_roles, require_fold, text_hash, write_table

HELD_OUT = "held_out_control"
ROLES = ("train", "val", "test", "control", HELD_OUT, "excluded")
UNIT = ["perturbation", "context"]
COLUMNS = [*UNIT, "fold", "role", "seen"]
NOT_TESTED = -1


@dataclass(frozen=True, eq=False)
class SplitTable:
    """A split, one row per unit and fold.

    Attributes
    ----------
    table
        Columns `perturbation`, `context`, `fold`, `role` (train, val, test, control, held_out_control, excluded) and
        `seen`: for a test unit the number of its members that occur in a training unit of that fold, else -1. Sorted.
        The control cells of a context have two rows where some of them are held out.
    fold
        The fold to use; not part of the hash.
    controls
        Which control cells are held out, in all folds.
    """

    table: pd.DataFrame
    fold: int = 0
    controls: ControlSplit = field(default_factory=ControlSplit)

    def __post_init__(self) -> None:
        ordered = self.table[COLUMNS].sort_values(["fold", *UNIT, "role", "seen"], ignore_index=True)
        object.__setattr__(self, "table", ordered.astype({"fold": np.int64, "seen": np.int64}))

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of the canonical CSV text and of the draw of held-out controls."""
        return text_hash(self.text + self.controls.text)

    @property
    def text(self) -> str:
        """Canonical CSV text: header, sorted rows, Unix line ends; written without pandas, so stable."""
        return canonical_text(COLUMNS, self.table[COLUMNS].astype(str).to_numpy().tolist())

    @property
    def folds(self) -> list[int]:
        """Fold numbers, ascending."""
        return sorted(int(fold) for fold in self.table["fold"].unique())

    def roles(self, fold: int | None = None) -> pd.DataFrame:
        """Return rows of one fold (default: the fold to use); DataError where the table has no such fold."""
        wanted = self.fold if fold is None else fold
        require_fold(wanted, self.folds)
        return self.table[self.table["fold"] == wanted].reset_index(drop=True)

    def with_held_out(self, n_controls: Mapping[str, int]) -> "SplitTable":
        """Return the table with a row of held-out controls for each context that has some.

        Parameters
        ----------
        n_controls
            Number of control cells by context.
        """
        rows = self.table[self.table["role"] != HELD_OUT]
        fitted = rows[rows["role"] == "control"]
        some = [self.controls.count(n_controls.get(str(context), 0)) > 0 for context in fitted["context"]]
        return replace(self, table=pd.concat([rows, fitted[some].assign(role=HELD_OUT)], ignore_index=True))

    def validate(self) -> "SplitTable":
        """Return the table itself, or raise DataError: see the checks, each says what is wrong and where."""
        self.roles()
        refuse_unknown_roles(self.table["role"].astype(str), ROLES)
        refuse_double_rows(self.table[self.table["role"] != HELD_OUT])
        _refuse_misplaced_controls(self.table)
        _refuse_empty_roles(self.table)
        return self

    def write(self, path: str | Path) -> None:
        """Write to `.csv` or `.parquet`; the file appears whole or not at all."""
        write_table(path, self.table, self.text)


def listed(rows: pd.DataFrame, limit: int = 8) -> str:
    """Return the first rows in words, for an error."""
    shown = [" in ".join(map(str, row)) for row in rows.head(limit).itertuples(index=False, name=None)]
    return ", ".join(shown) + (", ..." if len(rows) > limit else "")


def canonical_names(names: pd.Series) -> pd.Series:
    """Return canonical perturbation names, worked out once per distinct label."""
    return names.map({name: canonical_name(name) for name in names.unique()})


def refuse_double_rows(table: pd.DataFrame) -> None:
    """DataError where a unit stands twice in a fold, also under two names."""
    keys = pd.DataFrame({column: table[column] for column in ("context", "fold") if column in table})
    keys["perturbation"] = canonical_names(table["perturbation"])
    twice = keys.duplicated(keep=False)
    if not twice.any():
        return
    first = keys[twice].iloc[0]
    rows = table[(keys == first).all(axis=1)]
    names, roles = sorted(set(rows["perturbation"])), sorted(set(rows["role"].astype(str)))
    where = f"in fold {first['fold']}" + (f", context {first['context']}" if "context" in keys else "")
    if len(names) > 1:
        raise DataError(f"{' and '.join(names)} are one perturbation ({where}): give it one row, one name.")
    also = f"in {len(roles)} roles ({' and '.join(roles)})" if len(roles) > 1 else "twice"
    raise DataError(f"Perturbation {names[0]} stands {also} {where}: give it one row.")


def _refuse_misplaced_controls(table: pd.DataFrame) -> None:
    control = canonical_names(table["perturbation"]) == CONTROL
    split = table[control & ~table["role"].isin(["control", HELD_OUT, "excluded"])]
    if len(split):
        raise DataError(
            f"Control cells have the role '{split['role'].iloc[0]}' in fold {split['fold'].iloc[0]}, so "
            "controls would be split silently: give them the role control."
        )
    posing = table[~control & table["role"].isin(["control", HELD_OUT])]
    if len(posing):
        raise DataError(
            f"Perturbation {posing['perturbation'].iloc[0]} has the role {posing['role'].iloc[0]} in fold "
            f"{posing['fold'].iloc[0]}: name control cells in data.control, or give it another role."
        )


def _refuse_empty_roles(table: pd.DataFrame) -> None:
    held = set(zip(table["fold"], table["role"], strict=True))
    wanted = [(fold, role) for fold in table["fold"].unique() for role in ("train", "test")]
    empty = [pair for pair in wanted if pair not in held]
    if empty:
        fold, role = empty[0]
        raise DataError(
            f"Fold {fold} of the split has no {role} unit: type another data.split.folds or data.split.seed, "
            "or another data/split."
        )
