"""Trained models: what a checkpoint holds in addition to the weights, and what its predictions mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from pertexp.config.errors import DataError
from pertexp.data.pairs.design import PairDesign
from pertexp.data.screens.design import Design
from pertexp.models.protocols import NamedPredictor, PairPredictor
from pertexp.models.vocabulary import Vocabulary
from pertexp.runs.record import RecordedDesign

QUANTILES = 101  # of the size factors of control cells


@dataclass(frozen=True, eq=False)
class Restored:
    """A model from a checkpoint, whatever it predicts.

    Attributes
    ----------
    model, name
        The model itself, and its name.
    path
        The checkpoint.
    schema
        Split hash, fold, versions, and names in the order that the model knows: as every checkpoint carries them.
    data
        Options of the data that it was trained on: which columns mean what.
    task
        Name of the task that it belongs to.
    elsewhere
        What to do with data that are not those of the run.
    """

    task: ClassVar[str]
    elsewhere: ClassVar[str]

    model: object
    name: str
    path: Path
    schema: dict[str, Any]
    data: dict[str, Any]

    @property
    def run(self) -> Path:
        """The run folder that the checkpoint lies in; the file itself where it lies in none."""
        return self.path.parent.parent if self.path.parent.name == "checkpoints" else self.path


@dataclass(frozen=True, eq=False)
class Trained(Restored):
    """A model of screens, with what its predictions mean: the schema names genes, scale and profile_scale.

    Attributes
    ----------
    control
        `[C, G]` control profiles.
    size_factors
        `[C, Q]` quantiles of the size factors of control cells.
    median_depth
        Depth to which counts were normalised before training; None where they were not.
    """

    task = "screens"
    elsewhere = "predict with pertexp.predict and score the predictions with pred=..."

    model: NamedPredictor
    control: np.ndarray
    size_factors: np.ndarray
    median_depth: float | None = None

    @property
    def genes(self) -> tuple[str, ...]:
        """Names of the predicted genes, in order."""
        return tuple(self.schema["genes"])


@dataclass(frozen=True, eq=False)
class TrainedPairs(Restored):
    """A model of pairs.

    Attributes
    ----------
    lines
        Names of all cell lines of its data, in the order of their numbers.
    """

    task = "pairs"
    elsewhere = "predict the pairs as they are now with pertexp.predict"

    model: PairPredictor
    lines: tuple[str, ...]


def restorable_screens(design: Design, model: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint of screens holds in addition to weights and schema, to restore the model from it.

    Parameters
    ----------
    design
        Of the data that it is trained on.
    model, data
        The composed configuration of both, plain values.
    """
    screen = design.screen
    control = design.role == "control"
    levels = np.linspace(0, 1, QUANTILES)
    factors = [
        np.quantile(design.size_factor[control & (screen.context == c)], levels) for c in range(len(screen.contexts))
    ]
    return {
        "task": Trained.task,
        "model": model,
        "data": _plain(data),
        "vocabulary": Vocabulary.of(design).stored(),
        "control": torch.from_numpy(design.training.control.astype(np.float32)),
        "size_factors": torch.from_numpy(np.stack(factors).astype(np.float32)),
        "median_depth": _median_depth(design),
    }


def restorable_pairs(design: PairDesign, model: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint of pairs holds in addition to weights and schema."""
    return {"task": TrainedPairs.task, "model": model, "data": _plain(data), "lines": list(design.lines)}


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if _is_plain(value)}


def _median_depth(design: Design) -> float | None:
    """Depth to which counts were normalised; None where they were not."""
    if not design.notes.get("normalised_at_median_depth") or design.screen.depth is None:
        return None
    return float(np.median(design.screen.depth[design.cells("train", "control")]))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return not any(str(key).startswith("_") for key in value)
    return value is None or isinstance(value, str | int | float | bool | list)


def require_same_data(trained: Restored, design: RecordedDesign) -> None:
    """DataError where the data of the run are no longer what the model was trained on."""
    for key, value in design.schema().items():
        if trained.schema.get(key) != value:
            raise DataError(
                f"the data of {trained.run} have changed since the model was trained ({key} differs): restore the "
                f"file, or {trained.elsewhere}."
            )
