"""Settings that were scored on the same units, as one table of rows, verdict and comparisons, not rendered."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pertexp.config.errors import RequestError, nearest
from pertexp.evaluation.comparison import ScoredRows, compare, ties, verdict
from pertexp.evaluation.results.choice import Chosen
from pertexp.evaluation.results.settings import Setting
from pertexp.evaluation.roles import RowRoles
from pertexp.metrics.registry import METRICS
from pertexp.runs.schema import Comparison, Role

S = TypeVar("S", bound=ScoredRows, covariant=True)


@dataclass(frozen=True)
class ResultValue:
    """A row on a metric: mean over units and its interval; `sd` over seeds, NaN with one or where no seed moves it."""

    mean: float
    low: float = math.nan
    high: float = math.nan
    n: int = 1
    calibrated: float = math.nan
    sd: float = math.nan


@dataclass(frozen=True)
class ResultRow:
    """A row of the table.

    Attributes
    ----------
    role, model
        What it is, and its name in the runs.
    label
        Name in the table: of a model with the overrides that set its setting apart.
    overrides
        Those overrides, by key; of a baseline that scores differently under some settings, those of its setting.
    folds, seeds
        How many are pooled, and averaged.
    values
        By metric.
    """

    role: Role
    model: str
    label: str
    overrides: dict[str, str]
    folds: int
    seeds: int
    values: dict[str, ResultValue]


@dataclass(frozen=True, eq=False)
class LabelledSetting(Generic[S]):
    """A setting with its scores on the primary metric of its table, and its label."""

    setting: Setting
    scores: S
    label: str
    overrides: dict[str, str]

    @property
    def roles(self) -> RowRoles:
        """What each of its rows is."""
        return self.setting.results.roles.among(self.scores.models)

    @cached_property
    def rows(self) -> list[ResultRow]:
        """All its rows, the model first."""
        return [self._row(name, role) for name, role in self.roles.by_name.items()]

    def value(self, name: str, metric: str) -> ResultValue:
        """Return one of its rows on a metric."""
        found = self.scores.summary(name, metric)
        mean, low, high = (float(found[key]) for key in ("mean", "low", "high"))
        calibrated = float(found.get("calibrated", math.nan))
        return ResultValue(mean, low, high, int(found["n"]), calibrated, self._sd(name, metric))

    def _row(self, name: str, role: Role) -> ResultRow:
        own = role == "model"
        table = self.scores.aggregate
        metrics = table.loc[table["model"] == name, "metric"]
        return ResultRow(
            role,
            name,
            self.label if own else name,
            self.overrides if own else {},
            self.setting.n_folds,
            self.setting.n_seeds,
            {str(metric): self.value(name, str(metric)) for metric in metrics},
        )

    def _sd(self, name: str, metric: str) -> float:
        means = [of for of in self.setting.by_seed if metric in of and name in of.index]
        if len(means) < 2:
            return math.nan
        spread = float(pd.Series([of.loc[name, metric] for of in means]).std(ddof=1))
        return math.nan if name != self.setting.model and ties(spread, 0.0) else spread


@dataclass(frozen=True, eq=False)
class ResultsTable(Generic[S]):
    """Settings that were scored on the same units of the same data, best first.

    Attributes
    ----------
    data_name, task
        What they were scored on.
    primary
        The metric that orders them.
    settings
        Best first.
    swept
        Keys whose values differ between them.
    shared
        What was typed in all of them.
    """

    data_name: str
    task: str
    primary: str
    settings: list[LabelledSetting[S]]
    swept: list[str]
    shared: dict[str, str]

    @property
    def best(self) -> LabelledSetting[S]:
        """The setting of best mean on the primary metric."""
        return self.settings[0]

    @property
    def metrics(self) -> list[str]:
        """All metrics of any setting, the primary one first."""
        names = [name for one in self.settings for name in one.scores.aggregate["metric"]]
        return list(dict.fromkeys([self.primary, *names]))

    @property
    def n_runs(self) -> int:
        """Runs that count."""
        return sum(len(one.setting.runs) for one in self.settings)

    @property
    def chosen(self) -> list[tuple[LabelledSetting[S], tuple[Chosen, ...]]]:
        """What was chosen on validation, by setting; empty where nothing was."""
        return [(one, one.setting.chosen) for one in self.settings if one.setting.chosen]

    @cached_property
    def verdict(self) -> list[Comparison]:
        """The best setting compared with the best baseline on each headline metric, then with itself masked."""
        return verdict(self.best.scores, self.best.roles)

    @cached_property
    def rows(self) -> list[ResultRow]:
        """The model of every setting, best first; then every other row once."""
        return [one.rows[0] for one in self.settings] + self._others()

    def with_reference(self, reference: str) -> list[Comparison]:
        """Compare every setting with the one that has `key=value`, over the units of all folds and the mean of seeds.

        Where more was swept than the key, settings that share the rest are compared.

        Raises
        ------
        RequestError
            Where the reference is no `key=value`, its key was not swept, or no setting has this value.
        """
        key, wanted = self._reference_key(reference)
        found = []
        for base in [one for one in self.settings if _meaning(one.overrides.get(key)) == wanted]:
            rest = _without(base.overrides, key)
            others = [one for one in self.settings if one is not base and _without(one.overrides, key) == rest]
            if others:
                found += self.compared(base, others)
        return found

    def compared(self, base: LabelledSetting[S], others: Sequence[LabelledSetting[S]]) -> list[Comparison]:
        """Compare some of its settings with another of them; DataError where they were scored on other units."""
        results = {one.label: one.setting.results for one in [base, *others]}
        scores = type(base.setting.results).side_by_side(results).scores(self.primary)
        return [compare(scores, one.label, base.label, self.primary, "setting") for one in others]

    def _reference_key(self, reference: str) -> tuple[str, object]:
        key, equals, value = reference.lstrip("+").partition("=")
        if not equals:
            raise RequestError("type hydra.callbacks.sweep_table.reference='\"key=value\"'")
        if len(self.settings) == 1:
            raise RequestError(f"no other setting was scored on the same units of the same data as {self.best.label}")
        if key not in self.swept:
            known = f"; {nearest(key, self.swept)}" if self.swept else ""
            raise RequestError(f"{key} was not swept{known}")
        values = {str(one.overrides.get(key)) for one in self.settings}
        if _meaning(value) not in [_meaning(one) for one in values]:
            raise RequestError(f"no finished job has {reference}; {nearest(value, values)}")
        return key, _meaning(value)

    def _others(self) -> list[ResultRow]:
        """Return baselines and the replicate once; one that scores differently under some setting keeps its setting.

        Masked models are those of the best setting alone: those of the others say nothing about it.
        """
        variants: dict[str, list[tuple[ResultRow, LabelledSetting[S]]]] = {}
        for place, one in enumerate(self.settings):
            for row in one.rows[1:]:
                if row.role == "masked" and place > 0:
                    continue
                known = variants.setdefault(row.label, [])
                same = next((at for at, (other, _) in enumerate(known) if _same(row, other)), None)
                if same is None:
                    known.append((row, one))
                else:
                    first, owner = known[same]
                    known[same] = replace(first, values={**row.values, **first.values}), owner
        rows = [
            row if len(of_name) == 1 else replace(row, overrides=owner.overrides)
            for of_name in variants.values()
            for row, owner in of_name
        ]
        order = list(self.best.roles.by_name.values())
        ranks = {role: order.index(role) if role in order else len(order) for role in {row.role for row in rows}}
        return sorted(rows, key=lambda row: ranks[row.role])


def tables_of(settings: Iterable[Setting]) -> list[ResultsTable[ScoredRows]]:
    """Group settings that were scored on the same units of the same data; by name of the data, then largest first."""
    groups: dict[object, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(setting.table_key, []).append(setting)
    ordered = sorted(groups.values(), key=lambda group: (group[0].runs[0].data_name, -len(group[0].results.units)))
    return [_table(group) for group in ordered]


def _table(settings: list[Setting]) -> ResultsTable[ScoredRows]:
    primary = _common_primary(settings)
    settings = _best_first(settings, primary)
    typed = [setting.overrides for setting in settings]
    shared = {key: value for key, value in typed[0].items() if all(one.get(key) == value for one in typed)}
    own = [_own_overrides(one, shared, typed) for one in typed]
    results = [settings[0].results, *(one.results.without_repeated(settings[0].results) for one in settings[1:])]
    return ResultsTable(
        settings[0].runs[0].data_name,
        settings[0].runs[0].metrics.task,
        primary,
        [
            LabelledSetting(setting, found.scores(primary), label, overrides)
            for setting, found, label, overrides in zip(settings, results, _labels(settings, own), own, strict=True)
        ],
        sorted({key for overrides in own for key in overrides}),
        shared,
    )


def _common_primary(settings: Sequence[Setting]) -> str:
    """Return the primary metric of most runs, among those that every setting measured."""
    measured = set.intersection(*(set(one.results.metrics) for one in settings))
    named = [run.metrics.primary for one in settings for run in one.runs if run.metrics.primary in measured]
    return max(dict.fromkeys(named), key=named.count, default=settings[0].results.metrics[0])


def _best_first(settings: Iterable[Setting], primary: str) -> list[Setting]:
    """Sort by the primary metric; ties by what was typed, since the order of folders is that of their hashes."""
    sign = -1.0 if METRICS[primary].higher_is_better else 1.0
    means = {id(one): one.results.value(one.model, primary) for one in settings}
    return sorted(settings, key=lambda one: (math.isnan(means[id(one)]), sign * means[id(one)], _typed_order(one)))


def _typed_order(setting: Setting) -> list[tuple[str, bool, float, str]]:
    """Return a key that sorts numbers by size, before words."""
    found = []
    for key, value in sorted(setting.overrides.items()):
        try:
            found.append((key, False, float(value), ""))
        except ValueError:
            found.append((key, True, 0.0, value))
    return found


def _own_overrides(typed: dict[str, str], shared: dict[str, str], everyone: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return what sets a setting apart; an evaluation only where all name theirs: what it measures is seen anyway."""
    aside = {"data"} if all("evaluation" in one for one in everyone) else {"data", "evaluation"}
    return {key: value for key, value in typed.items() if key not in shared and key not in aside}


def _labels(settings: Sequence[Setting], own: Sequence[dict[str, str]]) -> list[str]:
    """Return a label for each setting: its model, and the overrides that set it apart; of its own in any case."""
    words = [[f"{key}={value}" if value else key for key, value in one.items() if key != "model"] for one in own]
    labels = [" ".join([setting.model, *typed]) for setting, typed in zip(settings, words, strict=True)]
    labels = _told_apart(labels, [f" ({'+'.join(setting.families)})" for setting in settings])
    return _told_apart(labels, [f", {setting.runs[-1].folder.name}" for setting in settings])


def _told_apart(labels: Sequence[str], endings: Sequence[str]) -> list[str]:
    twice = {label for label in labels if labels.count(label) > 1}
    return [label + ending if label in twice else label for label, ending in zip(labels, endings, strict=True)]


def _same(a: ResultRow, b: ResultRow) -> bool:
    shared = set(a.values) & set(b.values)
    pairs = [(a.values[name].mean, b.values[name].mean) for name in shared]
    return bool(shared) and all(ties(one, other) or (math.isnan(one) and math.isnan(other)) for one, other in pairs)


def _without(overrides: dict[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in overrides.items() if name != key}


def _meaning(value: str | None) -> object:
    """Read a typed value as Hydra does: 1e-4 is 0.0001, which is what it writes down, and quotes are no part of it."""
    try:
        return OverridesParser.create().parse_override(f"value={value}").value()
    except HydraException:
        return value
