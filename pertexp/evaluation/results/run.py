"""One finished run for the results layer: its scored units and its configuration."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pertexp.evaluation.results.results import Results
from pertexp.runs.reading import at, read_setting, training_perturbations
from pertexp.runs.schema import RunMetrics

FOLDS = ("data.split.fold", "data.split.line")  # what is tested where: pooled
SEED = "seed"
SPLIT_SEED = "data.split.seed"
SEEDS = (SEED, SPLIT_SEED, "data.split.controls.seed")  # averaged
REPEATS = (*FOLDS, *SEEDS)
N_TRAIN = "data.split.n_train"  # training perturbations of a fold, at most: what is scored stays the same
# What never changes a number: runs that differ in these alone are repeats of one setting.
_NOISE = ("print_config", "tags", "logger", "paths", "repeat", "ckpt_path", "hydra", "callbacks.progress",
          "trainer.enable_progress_bar", "trainer.logger", "experiment")  # fmt: skip
# What a model reads of the data without changing what it is scored on.
_INPUTS = ("batch_size", "batches", "loader_seed", "perturbation_embedding", "gene_embedding", "enhancer_length",
           "promoter_length", "crop", "reverse_complement", "lines_per_step", "positives")  # fmt: skip

Reader = Callable[[Path], tuple[RunMetrics, Results]]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes
    ----------
    folder
        Where it lies.
    metrics, results
        What it says of itself, and what it was scored on.
    config, words
        Its composed configuration, and the overrides that were typed.
    data_name
        Name of its data.
    """

    folder: Path
    metrics: RunMetrics
    results: Results
    config: dict[str, Any]
    words: list[str]
    data_name: str

    @property
    def model(self) -> str:
        """Name of the scored model."""
        return self.metrics.model

    @property
    def seed(self) -> str:
        """Its seed, as composed; empty where no configuration names it."""
        return str(self.config.get(SEED, ""))

    @cached_property
    def seeds(self) -> tuple[str, ...]:
        """Values of all keys that are averaged over."""
        return tuple(str(at(self.config, *key.split("."))) for key in SEEDS)

    @property
    def split(self) -> tuple[str, ...]:
        """Values of those keys that decide what is held out: runs of one split are scored on the same units."""
        return self.seeds[1:]

    @cached_property
    def held_out(self) -> tuple[str, ...]:
        """Values of the keys that are pooled over."""
        return tuple(str(at(self.config, *key.split("."))) for key in FOLDS)

    @cached_property
    def typed(self) -> dict[str, str]:
        """What was typed, but for what changes no number; a key that was left out has an empty value."""
        pairs = (word.lstrip("+").partition("=") for word in self.words)
        return {key: value for key, _, value in pairs if not _is_noise(key.lstrip("~"))}

    @cached_property
    def setting_key(self) -> str:
        """Equal for runs that are folds and seeds of one setting; of its own where no configuration is on record."""
        if not self.config:
            return f"{self.model} {self.folder}"
        return _text([self.model, self.data_name, _without(self.config, "", REPEATS)])

    @cached_property
    def data_key(self) -> str:
        """Equal for runs that are scored on the same data."""
        node = at(self.config, "data")
        data = {key: value for key, value in node.items() if key not in _INPUTS} if isinstance(node, dict) else {}
        scored = _without(data, "data.", (*REPEATS, N_TRAIN))
        return _text([self.metrics.task, self.data_name, scored, self.metrics.scale])

    @property
    def most_trained(self) -> int | None:
        """Training perturbations that it was allowed, None where it was not limited."""
        found = at(self.config, *N_TRAIN.split("."))
        return None if found is None else int(found)

    @cached_property
    def trained(self) -> int | None:
        """Training perturbations that it had; None where they are not on record."""
        return training_perturbations(self.folder)


def run_of(folder: Path, read: Reader) -> Run:
    """Read a finished run; DataError where a file cannot be read."""
    metrics, results = read(folder)
    return Run(folder, metrics, results, *read_setting(folder))


def _is_noise(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _NOISE)


def _without(tree: dict[str, Any], prefix: str, aside: Collection[str]) -> dict[str, Any]:
    """Return a configuration without some keys, and without what changes no number."""
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in aside or _is_noise(name):
            continue
        kept[str(key)] = _without(value, f"{name}.", aside) if isinstance(value, dict) else value
    return kept


def _text(parts: list[Any]) -> str:
    return json.dumps(parts, sort_keys=True, default=str)
