"""Many run folders, sorted into settings: which runs are folds and seeds of one thing, and which cannot be used."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pertexp.errors import DataError, RequestError
from pertexp.evaluation.jobs import FAILURE, REPEATS, failed_jobs, finished_jobs
from pertexp.evaluation.measuring import UNIT, Measured, pooled, stored
from pertexp.evaluation.page.reading import SCORES, Summary, at, read_setting
from pertexp.evaluation.page.tables import FIRST_FAMILY, family_of
from pertexp.metrics.registry import METRICS
from pertexp.record import CONFIG

# What never changes a number: runs that differ in these alone are repeats of one setting.
_NOISE = ("print_config", "tags", "logger", "paths", "repeat", "ckpt_path", "hydra", "callbacks.progress",
          "trainer.enable_progress_bar", "trainer.logger", "experiment")  # fmt: skip
# What a model reads of the data without changing what it is judged by.
_INPUTS = ("batch_size", "loader_seed", "perturbation_embedding", "gene_embedding")


@dataclass(frozen=True)
class Refused:
    """A folder that is not in any table, and why."""

    folder: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Entry:
    """One finished run: its scores, and what was set in it."""

    folder: Path
    summary: Summary
    config: dict[str, Any]
    words: list[str]
    measured: Measured
    data_name: str

    @property
    def seed(self) -> str:
        """Its seed, as composed."""
        return str(self.config.get("seed", ""))

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """Folds that its units were held out in."""
        return tuple(sorted({int(fold) for fold in self.measured.per_unit["fold"]}))

    @cached_property
    def overrides(self) -> dict[str, str]:
        """What was typed, without data, fold, seed, evaluation, and what changes no number."""
        pairs = (word.lstrip("+").partition("=") for word in self.words)
        aside = {*REPEATS, "data", "evaluation", "model"}
        return {key: value for key, _, value in pairs if key not in aside and not _noisy(key.lstrip("~"))}

    @cached_property
    def setting_key(self) -> str:
        """Equal for runs that are folds and seeds of one setting; of its own where no configuration is on record."""
        if not self.config:
            return f"{self.summary.model} {self.folder}"
        parts = [self.summary.model, self.data_name, _without(self.config, "")]
        return json.dumps(parts, sort_keys=True, default=str)

    @cached_property
    def data_key(self) -> str:
        """Equal for runs that are judged by the same data."""
        node = at(self.config, "data")
        data = {key: value for key, value in node.items() if key not in _INPUTS} if isinstance(node, dict) else {}
        return json.dumps([self.data_name, _without(data, "data."), self.summary.scale], sort_keys=True, default=str)


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ in fold and seed alone, pooled over folds and averaged over seeds unit by unit.

    Attributes
    ----------
    entries
        The runs that count.
    measured
        Values by unit, mean over seeds.
    by_seed
        Mean over all units, `[model × metric]`, of each seed.
    """

    entries: list[Entry]
    measured: Measured
    by_seed: list[pd.DataFrame]

    @property
    def model(self) -> str:
        """The scored model."""
        return self.entries[0].summary.model

    @property
    def overrides(self) -> dict[str, str]:
        """What was typed."""
        return max((entry.overrides for entry in self.entries), key=len)

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that were pooled."""
        return tuple(sorted({fold for entry in self.entries for fold in entry.folds}))

    @cached_property
    def board_key(self) -> tuple[str, str, frozenset[tuple[Any, ...]]]:
        """Equal for settings that can stand in one table: the same data, held-out units, and a family in common."""
        return self.entries[0].data_key, min(self.families, key=lambda name: name != FIRST_FAMILY), self.units

    @cached_property
    def units(self) -> frozenset[tuple[Any, ...]]:
        """Perturbation, context and fold of all that it was judged by."""
        return _units(self.measured)

    @cached_property
    def families(self) -> list[str]:
        """Families of its metrics, in order."""
        return list(dict.fromkeys(family_of(name) for name in self.measured.per_unit["metric"].unique()))


@dataclass(frozen=True)
class Gathered:
    """All that was found."""

    settings: list[Setting]
    refused: list[Refused] = field(default_factory=list)


def find_runs(paths: Iterable[Path]) -> tuple[list[Path], list[Refused]]:
    """Run folders at or beneath these, each once; those that failed, did not finish or are stale come with the reason.

    Raises
    ------
    RequestError
        Where a path does not exist, or none of them holds a run.
    """
    runs: list[Path] = []
    left: dict[Path, str] = {}
    for path in map(Path.resolve, paths):
        if not path.is_dir():
            raise RequestError(f"{path} is no folder: name outputs/runs/<date>/<run>, a sweep folder, or a parent.")
        found, aside = ([path], {}) if (path / SCORES).is_file() else _beneath(path)
        runs += found
        left |= aside
    runs = list(dict.fromkeys(runs))
    if not runs:
        reason = f"; {next(iter(left)).name}: {next(iter(left.values()))}" if left else ""
        raise RequestError(f"no finished run (no {SCORES}) beneath {', '.join(map(str, paths))}{reason}.")
    return runs, [Refused(folder, reason) for folder, reason in left.items() if folder not in runs]


def gather(runs: Iterable[Path]) -> Gathered:
    """Read runs and sort them into settings; what cannot be read or pooled is kept with its reason."""
    groups: dict[str, list[Entry]] = {}
    refused: list[Refused] = []
    for folder in runs:
        try:
            entry = _entry(folder)
        except DataError as fault:
            refused.append(Refused(folder, str(fault)))
        else:
            groups.setdefault(entry.setting_key, []).append(entry)
    settings = []
    for entries in groups.values():
        setting, left = _pooled(entries)
        refused += left
        settings += [setting] if setting is not None else []
    return Gathered(settings, refused)


def _beneath(path: Path) -> tuple[list[Path], dict[Path, str]]:
    """Finished runs beneath a folder, of a sweep those of its latest call as in its own table; and all others."""
    begun = {config.parents[1] for config in path.rglob(str(CONFIG))}
    finished = {scores.parent for scores in path.rglob(SCORES)}
    sweeps = {found.parent for found in path.rglob("multirun.yaml")}
    latest = {folder for sweep in sweeps for folder in _jobs(sweep)}
    runs = {folder for folder in finished if folder.parent not in sweeps or folder in latest}
    left = dict.fromkeys(sorted(begun - finished), f"not finished: no {SCORES}")
    left |= dict.fromkeys(sorted(finished - runs), "not counted: an earlier call of this sweep, under other defaults")
    for sweep in sorted(sweeps):
        left |= {folder: f"failed: {said}" for folder, said in _failures(sweep).items()}
    return sorted(runs), left


def _jobs(sweep: Path) -> list[Path]:
    try:
        return [job.folder for job in finished_jobs(sweep)]
    except Exception:  # a job whose configuration is gone or cut off: each folder speaks for itself
        return [scores.parent for scores in sweep.glob(f"*/{SCORES}")]


def _failures(sweep: Path) -> dict[Path, str]:
    try:
        return {folder: str(said["sentence"]) for folder, said in failed_jobs(sweep).items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {path.parent: f"{FAILURE} cannot be read" for path in sweep.glob(f"*/{FAILURE}")}


def _entry(folder: Path) -> Entry:
    summary, config, words, data_name = read_setting(folder)
    measured = stored(folder)
    known = _numeric(measured.per_unit, ["value"], folder / "metrics.parquet")
    trust = measured.reliability
    trust = trust if trust.empty else _numeric(trust, ["drf", "bds"], folder / "calibration.parquet")
    if "model" not in known or summary.model not in set(known["model"]):
        raise DataError(f"{folder} holds no score of {summary.model} on a metric that this version knows.")
    return Entry(folder, summary, config, words, Measured(known, trust, measured.scale), data_name)


def _numeric(table: pd.DataFrame, values: list[str], path: Path) -> pd.DataFrame:
    """Rows on metrics that this version knows, values as numbers; refused where it is no table that a run wrote."""
    missing = {"metric", *UNIT, *values} - set(table.columns)
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}; expected what a run writes.")
    try:
        kinds: dict[str, Any] = {"fold": int, "seen": int} | dict.fromkeys(values, float)
        typed = table.astype(kinds)
    except (TypeError, ValueError) as fault:
        raise DataError(f"{path} holds no numbers where a run writes some ({fault}).") from fault
    return typed[typed["metric"].isin(list(METRICS))]


def _pooled(entries: Sequence[Entry]) -> tuple[Setting | None, list[Refused]]:
    """One setting: the latest run of each fold and seed; seeds that were judged by fewer units are left out."""
    latest, refused = _latest(entries)
    by_seed: dict[str, list[Entry]] = {}
    for entry in sorted(latest, key=lambda entry: (entry.seed, entry.folds)):
        by_seed.setdefault(entry.seed, []).append(entry)
    parts: list[tuple[list[Entry], Measured]] = []
    for of_seed in by_seed.values():
        try:
            parts.append((of_seed, pooled([entry.measured for entry in of_seed])))
        except DataError as fault:
            refused += [Refused(entry.folder, f"cannot be pooled: {fault}") for entry in of_seed]
    if not parts:
        return None, refused
    most = max((_units(part) for _, part in parts), key=len)
    for of_seed, _ in [part for part in parts if _units(part[1]) != most]:
        reason = f"not counted: seed {of_seed[0].seed} of this setting lacks folds or units that another seed has"
        refused += [Refused(entry.folder, reason) for entry in of_seed]
    kept = [part for part in parts if _units(part[1]) == most]
    tables = [part for _, part in kept]
    counted = [entry for of_seed, _ in kept for entry in of_seed]
    return Setting(counted, _averaged(tables), [_means(table) for table in tables]), refused


def _latest(entries: Iterable[Entry]) -> tuple[list[Entry], list[Refused]]:
    """The latest run of each fold and seed, and the earlier ones."""
    latest: dict[tuple[str, tuple[int, ...]], Entry] = {}
    refused = []
    for entry in sorted(entries, key=lambda entry: (entry.folder / SCORES).stat().st_mtime_ns):
        earlier = latest.get((entry.seed, entry.folds))
        if earlier is not None:
            refused.append(Refused(earlier.folder, f"not counted: {entry.folder.name} is a later run of the same"))
        latest[entry.seed, entry.folds] = entry
    return list(latest.values()), refused


def _units(measured: Measured) -> frozenset[tuple[Any, ...]]:
    return frozenset(measured.per_unit[UNIT[:3]].drop_duplicates().itertuples(index=False, name=None))


def _averaged(parts: list[Measured]) -> Measured:
    """The mean over seeds of every value of every unit."""
    if len(parts) == 1:
        return parts[0]
    keys = ["model", "metric", *UNIT]
    joined = pd.concat([part.per_unit for part in parts])
    per_unit = joined.groupby(keys, sort=False, as_index=False)[["value"]].mean()
    trust = parts[0].reliability
    if all(not part.reliability.empty for part in parts):
        tried = pd.concat([part.reliability for part in parts])
        trust = tried.groupby(["metric", *UNIT], sort=False, as_index=False)[["drf", "bds"]].mean()
    return Measured(per_unit, trust, parts[0].scale)


def _means(measured: Measured) -> pd.DataFrame:
    return measured.per_unit.pivot_table(index="model", columns="metric", values="value", aggfunc="mean", sort=False)


def _noisy(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _NOISE)


def _without(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    """A configuration without folds, seeds, and what changes no number."""
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in REPEATS or _noisy(name):
            continue
        kept[str(key)] = _without(value, f"{name}.") if isinstance(value, dict) else value
    return kept
