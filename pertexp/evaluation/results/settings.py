"""Sort runs into settings: folds are pooled, seeds averaged unit by unit."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pertexp.config.errors import DataError
from pertexp.evaluation.results.choice import Choice, Chosen, chosen_runs
from pertexp.evaluation.results.finding import Refused
from pertexp.evaluation.results.results import Results
from pertexp.evaluation.results.run import N_TRAIN, REPEATS, Reader, Run, run_of
from pertexp.metrics.registry import METRICS
from pertexp.runs.schema import METRICS_FILE

FIRST_FAMILY = "core"


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ in fold and seed alone, pooled over folds and averaged over seeds unit by unit.

    Attributes
    ----------
    runs
        The runs that count.
    results
        What they were scored on.
    by_seed
        Means, `[model × metric]`, of each seed.
    chosen
        What was chosen on validation in each fold; empty where nothing was.
    """

    runs: list[Run]
    results: Results
    by_seed: list[pd.DataFrame]
    chosen: tuple[Chosen, ...] = ()

    @property
    def model(self) -> str:
        """Name of the scored model."""
        return self.runs[0].model

    @property
    def n_seeds(self) -> int:
        """Seeds that are averaged over."""
        return len(self.by_seed)

    @property
    def n_folds(self) -> int:
        """Folds and cell lines that are pooled."""
        return len({run.held_out for run in self.runs})

    @cached_property
    def overrides(self) -> dict[str, str]:
        """What was typed, without folds, seeds, what changes no number, and what was chosen on validation."""
        most = max((run.typed for run in self.runs), key=len)
        aside = {*REPEATS, *(key for one in self.chosen for key in one.values)}
        return {key: value for key, value in most.items() if key not in aside}

    @cached_property
    def table_key(self) -> tuple[str, str, frozenset[tuple[Any, ...]]]:
        """Equal for settings that can stand in one table: the same data, held-out units, and a family in common."""
        first = min(self.families, key=lambda name: name != FIRST_FAMILY)
        return self.runs[0].data_key, first, self.results.units

    @cached_property
    def trained(self) -> tuple[int, ...]:
        """Training perturbations of its runs, each number once, ascending; empty where they are not on record."""
        return tuple(sorted({run.trained for run in self.runs if run.trained is not None}))

    @property
    def most_trained(self) -> int | None:
        """Training perturbations that its runs were allowed, None where they were not limited."""
        return self.runs[0].most_trained

    @property
    def limit(self) -> float:
        """The same as a number: infinite where they were not limited."""
        return math.inf if self.most_trained is None else self.most_trained

    @property
    def trained_on_all(self) -> bool:
        """Whether they were limited, but to more training perturbations than any fold has."""
        return math.isfinite(self.limit) and bool(self.trained) and max(self.trained) < self.limit

    @cached_property
    def families(self) -> list[str]:
        """Families of its metrics, in order."""
        return list(dict.fromkeys(METRICS[name].family for name in self.results.metrics if name in METRICS))


@dataclass(frozen=True)
class Gathered:
    """All settings, and the runs that were left out with the reason."""

    settings: list[Setting]
    refused: list[Refused] = field(default_factory=list)


def gather(folders: Iterable[Path], read: Reader, choice: Choice | None = None) -> Gathered:
    """Read runs and sort them into settings; what cannot be read or pooled is kept with its reason.

    Parameters
    ----------
    read
        Reads metrics and results of a run folder.
    choice
        What is chosen on validation; None: nothing is.

    Raises
    ------
    RequestError
        Where the choice cannot be made.
    """
    runs, refused = _read(folders, read)
    runs, earlier = _latest(runs)
    groups: list[tuple[list[Run], tuple[Chosen, ...]]]
    left: list[Refused] = []
    if choice is None:
        by_key: dict[str, list[Run]] = {}
        for run in runs:
            by_key.setdefault(run.setting_key, []).append(run)
        groups = [(members, ()) for members in by_key.values()]
    else:
        groups, left = chosen_runs(runs, choice)
    refused += [*earlier, *left]
    settings = []
    for members, chosen in groups:
        setting, unpooled = _pooled(members, chosen)
        refused += unpooled
        settings += [setting] if setting is not None else []
    settings, repeating = _each_once(settings)
    return Gathered(settings, refused + repeating)


def _read(folders: Iterable[Path], read: Reader) -> tuple[list[Run], list[Refused]]:
    runs, refused = [], []
    for folder in folders:
        try:
            runs.append(run_of(folder, read))
        except DataError as fault:
            refused.append(Refused(folder, str(fault)))
    return runs, refused


def _latest(runs: Sequence[Run]) -> tuple[list[Run], list[Refused]]:
    """Return the latest run of each setting, fold and seed, in the order given; and the earlier ones."""
    latest: dict[tuple[Any, ...], Run] = {}
    refused = []
    for run in sorted(runs, key=lambda run: (run.folder / METRICS_FILE).stat().st_mtime_ns):
        key = run.setting_key, run.seeds, run.results.tested
        if key in latest:
            refused.append(Refused(latest[key].folder, f"not counted: {run.folder.name} is a later run of the same"))
        latest[key] = run
    kept = {id(run) for run in latest.values()}
    return [run for run in runs if id(run) in kept], refused


def _pooled(runs: Sequence[Run], chosen: tuple[Chosen, ...]) -> tuple[Setting | None, list[Refused]]:
    """Pool the folds of each seed, then average seeds; seeds that were scored on fewer units are left out."""
    by_seed: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.seeds, run.results.tested)):
        by_seed.setdefault(run.seeds, []).append(run)
    parts: list[tuple[list[Run], Results]] = []
    refused: list[Refused] = []
    for of_seed in by_seed.values():
        results = [run.results for run in of_seed]
        try:
            parts.append((of_seed, type(results[0]).pooled(results)))
        except DataError as fault:
            refused += [Refused(run.folder, f"cannot be pooled: {fault}") for run in of_seed]
    kept, fewer = _complete(parts)
    refused += fewer
    if not kept:
        return None, refused
    found = [results for _, results in kept]
    averaged = found[0] if len(found) == 1 else type(found[0]).averaged(found)
    counted = [run for of_seed, _ in kept for run in of_seed]
    return Setting(counted, averaged, [part.means() for part in found], chosen), refused


def _each_once(settings: Sequence[Setting]) -> tuple[list[Setting], list[Refused]]:
    """Leave out settings that were allowed more training perturbations than there are, where another had them all."""
    complete = [one for one in settings if math.isinf(one.limit) or one.trained_on_all]
    whole = {_but_for_n_train(one): one for one in sorted(complete, key=lambda one: one.limit)}
    left = [one for one in complete if one.trained_on_all and whole[_but_for_n_train(one)] is not one]
    refused = [Refused(run.folder, _repeats(one, whole[_but_for_n_train(one)])) for one in left for run in one.runs]
    return [one for one in settings if one not in left], refused


def _repeats(one: Setting, same: Setting) -> str:
    allowed = "null" if same.most_trained is None else same.most_trained
    return (
        f"not counted: {N_TRAIN}={one.most_trained} keeps all of the {max(one.trained)} training perturbations, as "
        f"{N_TRAIN}={allowed} does"
    )


def _but_for_n_train(setting: Setting) -> object:
    """Equal for settings that differ in the number of training perturbations alone."""
    typed = tuple(sorted((key, value) for key, value in setting.overrides.items() if key != N_TRAIN))
    return setting.table_key, setting.model, setting.n_seeds, typed


def _complete(
    parts: Sequence[tuple[list[Run], Results]],
) -> tuple[list[tuple[list[Run], Results]], list[Refused]]:
    """Seeds that were scored on as many units as any other seed of the same split; and the runs of the others."""
    most: dict[tuple[str, ...], frozenset[tuple[Any, ...]]] = {}
    for runs, results in parts:
        split = runs[0].split
        most[split] = max(most.get(split, frozenset()), results.units, key=len)
    kept = [(runs, results) for runs, results in parts if results.units == most[runs[0].split]]
    fewer = [runs for runs, results in parts if results.units != most[runs[0].split]]
    return kept, [
        Refused(run.folder, f"not counted: seed {run.seed} of this setting lacks folds or units that another seed has")
        for runs in fewer
        for run in runs
    ]
