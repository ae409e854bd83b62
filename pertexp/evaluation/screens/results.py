"""Scores of runs on screens for the results layer: values of every metric, unit by unit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pertexp.config.errors import DataError
from pertexp.evaluation.results.results import Results
from pertexp.evaluation.roles import RowRoles
from pertexp.evaluation.screens.measuring import SCORED_UNIT, Measured, pooled, stored
from pertexp.evaluation.screens.scoring import Scores
from pertexp.metrics.registry import METRICS
from pertexp.runs.schema import Bootstrap, RunMetrics

SEVERAL = -1  # fold of a unit that different splits hold out in different folds
_WHO = ["perturbation", "context"]


@dataclass(frozen=True, eq=False)
class ScreenResults(Results):
    """Test units of screens; over seeds, the mean of every value of every unit."""

    roles: RowRoles
    measured: Measured
    bootstrap: Bootstrap

    @classmethod
    def of(cls, folder: Path, metrics: RunMetrics) -> "ScreenResults":
        """Read those of a finished run, on the metrics that this version knows."""
        measured = stored(folder, metrics.scale)
        known, trust = (
            table[table["metric"].isin(list(METRICS))] for table in (measured.per_unit, measured.reliability)
        )
        if metrics.model not in set(known["model"]):
            raise DataError(f"{folder} holds no score of {metrics.model} on a metric that this version knows.")
        return cls(
            RowRoles.of_metrics(metrics), replace(measured, per_unit=known, reliability=trust), metrics.bootstrap
        )

    @classmethod
    def pooled(cls, parts: Sequence["ScreenResults"]) -> "ScreenResults":
        """Join the units of several folds."""
        return parts[0]._with(pooled([part.measured for part in parts]))

    @classmethod
    def averaged(cls, parts: Sequence["ScreenResults"]) -> "ScreenResults":
        """Average over seeds; rows and metrics that are not in every seed are left out."""
        return parts[0]._with(_averaged([part.measured for part in parts]))

    @classmethod
    def side_by_side(cls, parts: Mapping[str, "ScreenResults"]) -> "ScreenResults":
        """Join the models of several settings in one table, on the metrics that all have."""
        first, *_ = parts.values()
        shared = set.intersection(*(set(part.metrics) for part in parts.values()))
        tables = {name: part._own(name, shared) for name, part in parts.items()}
        units = pd.MultiIndex.from_frame(next(iter(tables.values()))[["metric", *_WHO, "fold"]])
        for name, table in tables.items():
            if set(pd.MultiIndex.from_frame(table[["metric", *_WHO, "fold"]])) != set(units):
                raise DataError(f"{name} was scored on other units than {next(iter(parts))}: they cannot be compared.")
        own = [table.set_index(["metric", *_WHO, "fold"]).loc[units].reset_index() for table in tables.values()]
        columns = list(first.measured.per_unit.columns)
        joined = replace(first.measured, per_unit=pd.concat([table[columns] for table in own], ignore_index=True))
        return replace(first, roles=RowRoles(next(iter(parts))), measured=joined)

    @cached_property
    def tested(self) -> tuple[int, ...]:
        """Folds that units were held out in."""
        return tuple(sorted({int(fold) for fold in self.measured.per_unit["fold"]}))

    @property
    def where(self) -> str:
        """The folds."""
        return "all folds" if self.tested == (SEVERAL,) else ", ".join(map(str, self.tested))

    @cached_property
    def units(self) -> frozenset[tuple[Any, ...]]:
        """Perturbation, context and fold of everything that was scored."""
        return frozenset(self.measured.per_unit[SCORED_UNIT[:3]].drop_duplicates().itertuples(index=False, name=None))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self.measured.per_unit["metric"].unique())

    def means(self) -> pd.DataFrame:
        """Return means over the units."""
        table = self.measured.per_unit
        means = table.pivot_table(index="model", columns="metric", values="value", aggfunc="mean", sort=False)
        return means.loc[list(dict.fromkeys(table["model"])), [m for m in self.metrics if m in means]]

    def scores(self, primary: str) -> Scores:
        """Scores over the units."""
        return Scores.of(self.measured, primary, self.bootstrap.n_resamples, self.bootstrap.seed)

    def _with(self, measured: Measured) -> "ScreenResults":
        return replace(self, measured=measured, roles=self.roles.among(measured.per_unit["model"].unique()))

    def _own(self, name: str, metrics: Collection[str]) -> pd.DataFrame:
        table = self.measured.per_unit
        return table[(table["model"] == self.roles.model) & table["metric"].isin(list(metrics))].assign(model=name)


def _averaged(parts: Sequence[Measured]) -> Measured:
    """Average every value of every unit; units of different splits are alike by name, whatever their fold."""
    tables = [part.per_unit for part in parts]
    for key in ("model", "metric"):
        shared = set.intersection(*(set(table[key]) for table in tables))
        tables = [table[table[key].isin(shared)] for table in tables]
    several = len({frozenset(zip(*(table[key] for key in SCORED_UNIT[:3]), strict=True)) for table in tables}) > 1
    unit = [*_WHO, "seen"] if several else SCORED_UNIT
    joined = pd.concat(tables)
    per_unit = joined.groupby(["model", "metric", *unit], sort=False, as_index=False)[["value"]].mean()
    trust = parts[0].reliability
    if all(not part.reliability.empty for part in parts):
        tried = pd.concat([part.reliability for part in parts])
        trust = tried.groupby(["metric", *unit], sort=False, as_index=False)[["drf", "bds"]].mean()
    if several:
        per_unit, trust = per_unit.assign(fold=SEVERAL), trust.assign(fold=SEVERAL)
    return Measured(per_unit[list(parts[0].per_unit.columns)], trust, parts[0].scale)
