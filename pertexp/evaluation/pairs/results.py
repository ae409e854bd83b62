"""Scores of runs on pairs for the results layer: the predictions of every row for every pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pertexp.config.errors import DataError
from pertexp.evaluation.pairs.predictions import PAIR_AND_FOLD, pooled, stored
from pertexp.evaluation.pairs.scoring import REPEAT, PairScores
from pertexp.evaluation.results.results import Results
from pertexp.evaluation.roles import RowRoles, joined_roles
from pertexp.metrics.pairs import PAIRS
from pertexp.runs.schema import Bootstrap, RunMetrics


@dataclass(frozen=True, eq=False)
class PairResults(Results):
    """Scored pairs, with a column `repeat` that numbers the seeds.

    Attributes
    ----------
    table
        What the runs wrote.
    roles
        What each row is.
    bootstrap
        How intervals are drawn.
    """

    table: pd.DataFrame
    roles: RowRoles
    bootstrap: Bootstrap

    @classmethod
    def of(cls, folder: Path, metrics: RunMetrics) -> "PairResults":
        """Read those of a finished run."""
        table = stored(folder)
        if metrics.model not in set(table["model"]):
            raise DataError(f"{folder} holds no prediction of {metrics.model}; expected what a run writes.")
        return cls(_ordered(table.assign(**{REPEAT: 0})), RowRoles.of_metrics(metrics), metrics.bootstrap)

    @classmethod
    def pooled(cls, parts: Sequence["PairResults"]) -> "PairResults":
        """Join the pairs of several lines and folds; rows that are not in every run are left out."""
        return parts[0]._with(pooled([part.table for part in parts]), joined_roles(part.roles for part in parts))

    @classmethod
    def averaged(cls, parts: Sequence["PairResults"]) -> "PairResults":
        """Take the results as seeds that scores average over, without rows that are not in every one."""
        shared = set.intersection(*(set(part.table["model"]) for part in parts))
        tables = [
            part.table[part.table["model"].isin(shared)].assign(**{REPEAT: number}) for number, part in enumerate(parts)
        ]
        return parts[0]._with(pd.concat(tables, ignore_index=True), joined_roles(part.roles for part in parts))

    @classmethod
    def side_by_side(cls, parts: Mapping[str, "PairResults"]) -> "PairResults":
        """Join the models of several settings in one table."""
        first, *_ = parts.values()
        for name, part in parts.items():
            if part.units != first.units:
                raise DataError(f"{name} was scored on other pairs than {next(iter(parts))}: they cannot be compared.")
        tables = [
            part.table[part.table["model"] == part.roles.model].assign(model=name) for name, part in parts.items()
        ]
        return replace(first, table=_ordered(pd.concat(tables, ignore_index=True)), roles=RowRoles(next(iter(parts))))

    @cached_property
    def tested(self) -> tuple[tuple[str, int], ...]:
        """Cell lines and folds."""
        cells = self.table[["cell_line", "fold"]].drop_duplicates()
        return tuple(sorted(zip(cells["cell_line"].astype(str), cells["fold"].astype(int), strict=True)))

    @property
    def where(self) -> str:
        """Cell lines, and folds."""
        lines = list(dict.fromkeys(line for line, _ in self.tested))
        folds = sorted({fold for _, fold in self.tested})
        named = ", ".join(lines) if len(lines) <= 4 else f"{len(lines)} cell lines"
        return f"{named}, {'folds' if len(folds) > 1 else 'fold'} {', '.join(map(str, folds))}"

    @cached_property
    def units(self) -> frozenset[tuple[Any, ...]]:
        """The pairs with their labels."""
        own = self.table.loc[self.table["model"] == self.roles.model, [*PAIR_AND_FOLD, "label"]]
        return frozenset(own.itertuples(index=False, name=None))

    @property
    def metrics(self) -> tuple[str, ...]:
        """All of pairs."""
        return tuple(PAIRS)

    def means(self) -> pd.DataFrame:
        """Return means over lines of the means over seeds and folds."""
        return self.scores(next(iter(PAIRS))).means()

    def without_repeated(self, first: "PairResults") -> "PairResults":
        """Leave out masked rows, and baselines that score as in the first: resampling pairs takes its time."""
        own, known = self.means(), first.means()
        same = {name for name in own.index.intersection(known.index) if own.loc[name].equals(known.loc[name])}
        left = (same | set(self.roles.masked)) - {self.roles.model}
        return self._with(self.table[~self.table["model"].isin(left)], self.roles)

    def scores(self, primary: str) -> PairScores:
        """Scores over the pairs."""
        return PairScores(self.table, primary, self.bootstrap.n_resamples, self.bootstrap.seed)

    def _with(self, table: pd.DataFrame, roles: RowRoles) -> "PairResults":
        return replace(self, table=_ordered(table), roles=roles.among(table["model"].unique()))


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Return pairs in an order of their own, rows in theirs: resamples of any two runs hold the same pairs."""
    return table.sort_values(PAIR_AND_FOLD, kind="stable", ignore_index=True)
