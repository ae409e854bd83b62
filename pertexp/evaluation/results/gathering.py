"""Many run folders, sorted into settings: which runs are folds and seeds of one thing, and which cannot be used."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pertexp.errors import DataError, RequestError
from pertexp.evaluation.results.evidence import Evidence
from pertexp.report.tables import FIRST_FAMILY, family_of
from pertexp.runs.jobs import FAILURE, REPEATS, failed_jobs, finished_jobs
from pertexp.runs.reading import SCORES, Summary, at, read_setting
from pertexp.runs.record import CONFIG
from pertexp.tasks.registry import kind_of

# What never changes a number: runs that differ in these alone are repeats of one setting.
_NOISE = ("print_config", "tags", "logger", "paths", "repeat", "ckpt_path", "hydra", "callbacks.progress",
          "trainer.enable_progress_bar", "trainer.logger", "experiment")  # fmt: skip
# What a model reads of the data without changing what it is judged by.
_INPUTS = ("batch_size", "loader_seed", "perturbation_embedding", "gene_embedding", "enhancer_length",
           "promoter_length", "crop", "reverse_complement", "lines_per_step", "positives")  # fmt: skip


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
    evidence: Evidence
    data_name: str

    @property
    def seed(self) -> str:
        """Its seed, as composed."""
        return str(self.config.get("seed", ""))

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
        parts = [self.summary.kind, self.data_name, _without(data, "data."), self.summary.scale]
        return json.dumps(parts, sort_keys=True, default=str)


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ in fold and seed alone, pooled over folds and averaged over seeds unit by unit.

    Attributes
    ----------
    entries
        The runs that count.
    evidence
        What they were judged by, folds together, mean over seeds.
    by_seed
        Means, `[model × metric]`, of each seed.
    """

    entries: list[Entry]
    evidence: Evidence
    by_seed: list[pd.DataFrame]

    @property
    def model(self) -> str:
        """The scored model."""
        return self.entries[0].summary.model

    @property
    def overrides(self) -> dict[str, str]:
        """What was typed."""
        return max((entry.overrides for entry in self.entries), key=len)

    @cached_property
    def board_key(self) -> tuple[str, str, frozenset[tuple[Any, ...]]]:
        """Equal for settings that can stand in one table: the same data, held-out units, and a family in common."""
        return self.entries[0].data_key, min(self.families, key=lambda name: name != FIRST_FAMILY), self.evidence.units

    @cached_property
    def families(self) -> list[str]:
        """Families of its metrics, in order."""
        return list(dict.fromkeys(map(family_of, self.evidence.metrics)))


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
    return Entry(folder, summary, config, words, kind_of(folder).evidence.of(folder), data_name)


def _pooled(entries: Sequence[Entry]) -> tuple[Setting | None, list[Refused]]:
    """One setting: the latest run of each fold and seed; seeds that were judged by fewer units are left out."""
    latest, refused = _latest(entries)
    by_seed: dict[str, list[Entry]] = {}
    for entry in sorted(latest, key=lambda entry: (entry.seed, entry.evidence.tested)):
        by_seed.setdefault(entry.seed, []).append(entry)
    parts: list[tuple[list[Entry], Evidence]] = []
    for of_seed in by_seed.values():
        evidence = [entry.evidence for entry in of_seed]
        try:
            parts.append((of_seed, type(evidence[0]).pooled(evidence)))
        except DataError as fault:
            refused += [Refused(entry.folder, f"cannot be pooled: {fault}") for entry in of_seed]
    if not parts:
        return None, refused
    most = max((part.units for _, part in parts), key=len)
    for of_seed, _ in [part for part in parts if part[1].units != most]:
        reason = f"not counted: seed {of_seed[0].seed} of this setting lacks folds or units that another seed has"
        refused += [Refused(entry.folder, reason) for entry in of_seed]
    kept = [(of_seed, part) for of_seed, part in parts if part.units == most]
    evidence = [part for _, part in kept]
    counted = [entry for of_seed, _ in kept for entry in of_seed]
    averaged = evidence[0] if len(evidence) == 1 else type(evidence[0]).averaged(evidence)
    return Setting(counted, averaged, [part.means() for part in evidence]), refused


def _latest(entries: Iterable[Entry]) -> tuple[list[Entry], list[Refused]]:
    """The latest run of each fold and seed, and the earlier ones."""
    latest: dict[tuple[str, tuple[Any, ...]], Entry] = {}
    refused = []
    for entry in sorted(entries, key=lambda entry: (entry.folder / SCORES).stat().st_mtime_ns):
        earlier = latest.get((entry.seed, entry.evidence.tested))
        if earlier is not None:
            refused.append(Refused(earlier.folder, f"not counted: {entry.folder.name} is a later run of the same"))
        latest[entry.seed, entry.evidence.tested] = entry
    return list(latest.values()), refused


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
