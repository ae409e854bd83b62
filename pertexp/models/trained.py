"""Trained models: what a checkpoint holds beside the weights, and the way back from it."""

import pydoc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from omegaconf import OmegaConf

from pertexp.data.pairs.design import PairDesign
from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import Units
from pertexp.errors import DataError, MismatchError
from pertexp.models.vocabulary import Vocabulary
from pertexp.training.checkpoints import read_checkpoint

QUANTILES = 101  # of the size factors of control cells


@runtime_checkable
class NamedPredictor(Protocol):
    """A trained model that can be asked for perturbations by name."""

    vocabulary: Vocabulary

    def units_named(self, names: Sequence[str], context: str) -> Units:
        """Units of canonical names in a context of the model."""

    def predict(self, units: Units) -> np.ndarray:
        """`[U, G]` profiles."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A model from a checkpoint, with what its predictions mean.

    Attributes
    ----------
    model, name
        The model itself, and its name.
    path
        The checkpoint.
    schema
        Genes, scale, profile_scale, split_hash, fold, versions: as every checkpoint carries them.
    data
        Options of the data that it was trained on: which columns mean what.
    control
        `[C, G]` control profiles.
    size_factors
        `[C, Q]` quantiles of the size factors of control cells.
    median_depth
        Depth to which counts were normalised before training; None where they were not.
    """

    model: NamedPredictor
    name: str
    path: Path
    schema: dict[str, Any]
    data: dict[str, Any]
    control: np.ndarray
    size_factors: np.ndarray
    median_depth: float | None = None

    @property
    def run(self) -> Path:
        """The run folder that the checkpoint lies in; the file itself where it lies in none."""
        return self.path.parent.parent if self.path.parent.name == "checkpoints" else self.path

    @property
    def genes(self) -> tuple[str, ...]:
        """Names of the predicted genes, in order."""
        return tuple(self.schema["genes"])


@singledispatch
def restorable(design: Any, model: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """What a checkpoint needs beside weights and schema, so that the model can be used from it alone.

    Parameters
    ----------
    design
        Of a kind that is registered here.
    model, data
        The composed configuration of both, plain values.
    """
    raise TypeError(f"no model can be restored from a {type(design).__name__}")


@restorable.register
def _(design: Design, model: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    screen = design.screen
    control = screen.perturbation == 0
    levels = np.linspace(0, 1, QUANTILES)
    factors = [
        np.quantile(design.size_factor[control & (screen.context == c)], levels) for c in range(len(screen.contexts))
    ]
    return {
        "model": model,
        "data": _plain(data),
        "vocabulary": Vocabulary.of(design).stored(),
        "control": torch.from_numpy(design.training.control.astype(np.float32)),
        "size_factors": torch.from_numpy(np.stack(factors).astype(np.float32)),
        "median_depth": _median_depth(design),
    }


@restorable.register
def _(design: PairDesign, model: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "data": _plain(data), "lines": list(design.lines)}


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


def checkpoint_of(place: str) -> Path:
    """The best checkpoint of a run folder, its last one where none is best, or the checkpoint file itself."""
    path = Path(place)
    if path.is_file():
        return path
    found = [path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")]
    chosen = next((one for one in found if one.is_file()), None)
    if chosen is None:
        raise DataError(f"no checkpoint in {path}: type ckpt=outputs/runs/<date>/<run>, or the .ckpt file itself.")
    return chosen


def restore(place: str, conf: Path) -> Trained:
    """The trained model of a run folder or checkpoint file.

    Only what the configuration tree `conf` builds under model= is looked up by the name in the file.

    Raises
    ------
    DataError
        Where there is no checkpoint, it is unreadable, or was written by no model of this installation.
    """
    path = checkpoint_of(place)
    stored = read_checkpoint(path)
    if "restore" not in stored or "schema" not in stored:
        raise DataError(f"{path} holds weights but not what they mean: name a checkpoint that pertexp.run wrote.")
    kept, weights = stored["restore"], stored["state_dict"]
    if "vocabulary" not in kept:
        raise MismatchError(f"{path} holds a model of pairs: expected one that was trained on a screen.")
    options = {key: value for key, value in kept["model"].items() if not key.startswith("_")}
    builder = _builder(str(kept["model"].get("_target_")), path, conf)
    try:
        model = builder(weights, Vocabulary.read(kept["vocabulary"]), **options)
    except (KeyError, RuntimeError) as fault:
        said = str(fault).strip().splitlines()[0]
        raise DataError(f"{path} does not fit the model that it names ({said}): the file was changed.") from fault
    control, factors = (np.asarray(kept[name], dtype=np.float64) for name in ("control", "size_factors"))
    return Trained(
        model,
        str(options.get("name", "model")),
        path,
        stored["schema"],
        kept["data"],
        control,
        factors,
        kept["median_depth"],
    )


def require_same_data(trained: Trained, design: Design) -> None:
    """DataError where the data of the run are no longer what the model was trained on."""
    now = {
        "genes": design.screen.genes.tolist(),
        "perturbations": list(design.screen.perturbations),
        "split_hash": design.split.hash,
        "fold": design.split.fold,
    }
    for key, value in now.items():
        if trained.schema[key] != value:
            raise DataError(
                f"the data of {trained.run} have changed since the model was trained ({key} differs): restore the "
                "file, or predict with pertexp.predict and score the predictions with pred=..."
            )


def _builder(target: str, path: Path, conf: Path) -> Any:
    """The `from_checkpoint` of a model that the configuration tree builds."""
    known = [_target(OmegaConf.load(file)) for file in sorted((conf / "model").glob("*.yaml"))]
    if target not in known:
        raise DataError(f"{path} was written by {target}, which no model= of this installation builds.")
    owner: Any = pydoc.locate(target.rpartition(".")[0])
    if not hasattr(owner, "from_checkpoint"):
        raise DataError(f"{path} was written by {target}, which cannot be used from a checkpoint alone.")
    return owner.from_checkpoint


def _target(config: Any) -> str:
    node = config.get("model", config)
    return str(node.get("_target_", ""))
