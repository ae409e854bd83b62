"""A split of a screen."""

from dataclasses import dataclass

import pandas as pd

from pertexp.data.screens.screen import CONTROL, members
from pertexp.data.screens.split_table import COLUMNS, NOT_TESTED, SplitTable


@dataclass(frozen=True)
class Alphabetical:
    """Fold k tests every n-th perturbation in the order of names, from the k-th; the next one after each validates."""

    folds: int = 3
    fold: int = 0

    def __call__(self, units: pd.DataFrame) -> SplitTable:
        """A row for every unit and fold, from a row for every unit with columns `perturbation` and `context`."""
        names = sorted(set(units["perturbation"]) - {CONTROL})
        parts = [self._roles(units, names, number) for number in range(self.folds)]
        return SplitTable(pd.concat(parts)[COLUMNS], self.fold)

    def _roles(self, units: pd.DataFrame, names: list[str], number: int) -> pd.DataFrame:
        places = {(number) % self.folds: "test", (number + 1) % self.folds: "val"}
        roles = {name: places.get(place % self.folds, "train") for place, name in enumerate(names)}
        trained = {part for name, role in roles.items() if role == "train" for part in members(name)}
        rows = units.assign(fold=number, role=units["perturbation"].map(roles | {CONTROL: "control"}))
        seen = [len(trained & set(members(name))) for name in rows["perturbation"]]
        return rows.assign(seen=seen).assign(seen=lambda own: own["seen"].where(own["role"] == "test", NOT_TESTED))
