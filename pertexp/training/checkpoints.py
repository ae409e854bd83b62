"""Checkpoints that can be used elsewhere, and from which a killed run resumes to the same numbers."""

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from pertexp import threads
from pertexp.config.errors import DataError, MismatchError


class KeepLast(Checkpoint):
    """`last.ckpt`, to resume from: every so many steps, between epochs, and when training ends.

    Lightning's own checkpoints are also taken while an epoch ends, before early stopping or validation have seen it;
    it resumes from there with these left out or done twice. This one is never taken there, so that a run resumed from
    it does exactly what the interrupted one had still to do.

    Parameters
    ----------
    dirpath
        Folder of `last.ckpt`.
    every_n_train_steps
        Steps from one checkpoint within an epoch to the next; 0: between epochs alone.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int = 100) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_train_steps = every_n_train_steps
        self._saved_step = 0
        self._between_epochs: bool | None = None
        self._resumed_between_epochs = False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Save within an epoch, right after a step; the last batch belongs to the end of the epoch."""
        step, every = trainer.global_step, self.every_n_train_steps
        if every and step % every == 0 and step != self._saved_step and not trainer.is_last_batch:
            self._save(trainer, between_epochs=False)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Save what the epochs before left, once everything has seen them."""
        if trainer.current_epoch > 0:
            self._save(trainer, between_epochs=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Save the end of training, also that of none at all."""
        self._save(trainer, between_epochs=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Let an epoch begin as any other where the checkpoint stood between two, and none where early stopping stood.

        Lightning takes the counters of the epoch that is over for those of one half done.
        """
        if not self._resumed_between_epochs:
            return
        trainer.fit_loop.epoch_loop.restarting = False
        reasons = [stop.stopping_reason for stop in trainer.early_stopping_callbacks]
        trainer.should_stop = any(reason is not EarlyStoppingReason.NOT_STOPPED for reason in reasons)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Say where in the run the checkpoint stands; those that others take are not for resuming."""
        if self._between_epochs is not None:
            checkpoint["between_epochs"] = self._between_epochs

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Remember it for the start of training."""
        self._resumed_between_epochs = checkpoint["between_epochs"]

    def _save(self, trainer: Any, *, between_epochs: bool) -> None:
        if trainer.fast_dev_run:
            return
        self._between_epochs = between_epochs
        partial = self.path.with_name(f".{self.path.name}.partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.path)
        self._between_epochs, self._saved_step = None, trainer.global_step


class KeepBest(ModelCheckpoint):
    """Lightning's checkpoint of the best epoch, which it does not lose when the run resumes in another folder."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Copy the best file from the folder of the checkpoint into this run's folder, and take its score over."""
        state = checkpoint["callbacks"].get(self.state_key)
        if state is None:
            return
        here, brought = Path(str(self.dirpath)), ""
        if state["best_model_path"]:
            old = Path(str(trainer.ckpt_path)).parent / Path(state["best_model_path"]).name
            brought = str(here / old.name)
            if trainer.is_global_zero:
                _bring(old, Path(brought))
        best = {brought: state["best_model_score"]} if brought else {}
        places = {"dirpath": self.dirpath, "best_model_path": brought, "kth_best_model_path": brought}
        state.update(places, best_k_models=best, last_model_path="")


class EpochClock(Callback):
    """Callback that tells the training loader which epoch begins; Lightning does so for its own samplers alone."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Not called when a run resumes in mid-epoch: the loader's own state says where it was."""
        loader: Any = trainer.train_dataloader
        same_batches = getattr(trainer, "overfit_batches", 0) > 0
        loader.set_epoch(0 if same_batches else trainer.current_epoch)


class RandomState(Callback):
    """Saves the state of every random generator, so that a resumed run draws what the killed one would have drawn.

    And the number of threads, without which it would add up in another order.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Put the states in as tensors and plain numbers: nothing that needs unpickling."""
        version, numbers, gauss = random.getstate()
        legacy: Any = np.random.get_state()  # noqa: NPY002
        name, keys, *rest = legacy
        checkpoint["threads"] = threads.count()
        checkpoint["random_state"] = {
            "python": [version, list(numbers), gauss],
            "numpy": [name, keys.tolist(), *rest],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Put the generators back where they were."""
        state = checkpoint["random_state"]
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))  # noqa: NPY002
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])


class SchemaStamp(Callback):
    """Writes into every checkpoint what is needed to use it elsewhere.

    Parameters
    ----------
    schema, restorable
        Yield it, and what the model needs to be rebuilt: data may not be read yet where callbacks are built.
    setting
        What was composed, as far as the numbers of training hang on it: plain values.
    """

    def __init__(
        self,
        schema: Callable[[], dict[str, Any]],
        restorable: Callable[[], dict[str, Any]],
        setting: Mapping[str, Any],
    ) -> None:
        self._schema, self._restorable, self._setting = schema, cache(restorable), dict(setting)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Add names and their order, split hash, versions, what the model is rebuilt from, and validation metrics."""
        checkpoint["schema"] = self._schema()
        checkpoint["restore"] = self._restorable()
        checkpoint["setting"] = self._setting
        checkpoint["validation"] = validation_metrics(trainer)


class Advice(NamedTuple):
    """What to type where a checkpoint does not fit this run: other data, other options, another model."""

    data: str
    options: str
    model: str


RESUME = Advice(
    "resume with the configuration of its own run, or start anew without ckpt_path",
    "resume with the options of its own run, or start anew without ckpt_path",
    "resume with the model options of its own run",
)
BEGIN = Advice(
    "type the options of data and split of that run, or stages.from=null",
    "type the model options of that run, or stages.from=null",
    "type the model options of that run, or stages.from=null",
)


def require_resumable(path: str, module: LightningModule, schema: dict[str, Any], setting: Mapping[str, Any]) -> None:
    """Refuse a checkpoint from which this run cannot go on to the numbers of its own, before anything is trained.

    Raises
    ------
    DataError
        Where it is unreadable, or was trained on other data.
    MismatchError
        Where it belongs to another model, or was trained with other options.
    """
    checkpoint = read_checkpoint(path)
    if "between_epochs" not in checkpoint:
        raise DataError(f"{path} holds weights alone: resume from the last.ckpt of its run.")
    _require_schema(path, checkpoint["schema"], schema, RESUME)
    _require_setting(path, checkpoint.get("setting"), setting, RESUME)
    _require_fit(path, checkpoint["state_dict"], module.state_dict(), RESUME)


def begin_from(module: LightningModule, run: str, schema: dict[str, Any], model: Mapping[str, Any]) -> None:
    """Load the weights of the best checkpoint of another run, from which training begins.

    The state of the loss stays as it is: this run fits it to its own labels.

    Parameters
    ----------
    run
        Folder of the other run, or one of its checkpoints.
    schema
        Of the data of this run.
    model
        Options of the model of this run: plain values.

    Raises
    ------
    DataError
        Where there is no checkpoint, it is unreadable, or was trained on other data or another split.
    MismatchError
        Where it belongs to another model, or one with other options or shapes.
    """
    path = str(checkpoint_of(run, "stages.from"))
    checkpoint = read_checkpoint(path)
    theirs, setting = checkpoint.get("schema"), checkpoint.get("setting")
    if not isinstance(theirs, dict) or not isinstance(setting, dict):
        raise DataError(f"{path} holds weights but not what they mean: name a run of pertexp in stages.from.")
    _require_schema(path, theirs, schema, BEGIN)
    _require_setting(path, {"model": setting.get("model")}, {"model": model}, BEGIN)
    weights, own = _without_loss(checkpoint["state_dict"]), _without_loss(module.state_dict())
    _require_fit(path, weights, own, BEGIN)
    module.load_state_dict(weights, strict=False)


def checkpoint_of(place: str, option: str = "ckpt") -> Path:
    """Return the best checkpoint of a run folder, its last one where none is best, or the checkpoint file itself.

    `option` is the name on the command line of what holds `place`.
    """
    path = Path(place)
    if path.is_file():
        return path
    found = [path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")]
    chosen = next((one for one in found if one.is_file()), None)
    if chosen is None:
        raise DataError(f"no checkpoint in {path}: type {option}=outputs/runs/<date>/<run>, or the .ckpt file itself.")
    return chosen


def validation_metrics(trainer: Trainer) -> dict[str, float]:
    """Return the validation metrics of the latest epoch by their logged names, `val/...`."""
    return {str(name): float(value) for name, value in trainer.callback_metrics.items() if str(name).startswith("val/")}


def load_weights(module: LightningModule, path: str | Path) -> dict[str, float]:
    """Load the weights of a checkpoint; return the validation metrics of the epoch that it was written in.

    Raises
    ------
    DataError
        Where it is absent, truncated, of another format or holds code.
    """
    checkpoint = read_checkpoint(path)
    module.load_state_dict(checkpoint["state_dict"])
    return dict(checkpoint.get("validation", {}))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint as plain tensors and values, never as pickled objects."""
    if not Path(path).is_file():
        raise DataError(f"no checkpoint {path}: type ckpt_path=<run folder>/checkpoints/last.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch raises many kinds for a file that is truncated, of another format or unsafe
        raise DataError(
            f"{path} cannot be read as a checkpoint ({type(fault).__name__}): it may be truncated, of another "
            "format, or hold code, which is never run; name another checkpoint."
        ) from fault
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DataError(f"{path} holds no weights (`state_dict`): name a checkpoint that pertexp wrote.")
    return checkpoint


def _without_loss(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith("loss.")}


def _require_schema(path: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], advice: Advice) -> None:
    for key in dict.fromkeys([*ours, *theirs]):
        if key != "versions" and theirs.get(key) != ours.get(key):
            raise DataError(f"{path} was trained on other data ({key} differs): {advice.data}.")


def _require_setting(path: str, theirs: object, ours: Mapping[str, Any], advice: Advice) -> None:
    """Refuse other options; a file may lie in another folder, or be named from one, as long as it has its name."""
    if theirs is None:
        return  # written before it was kept
    if not isinstance(theirs, dict):
        raise DataError(f"{path} holds a setting that is none: the file was changed; name another checkpoint.")
    was, now = _dotted(theirs), _dotted(ours)
    for key in dict.fromkeys([*now, *was]):
        before, here = was.get(key, "not there"), now.get(key, "not there")
        if before != here and not _are_places_of_one_name(before, here):
            raise MismatchError(
                f"{path} was trained with {key}={_typed(before)}, and this run has {_typed(here)}: {advice.options}."
            )


def _dotted(nested: Mapping[Any, Any], above: str = "") -> dict[str, Any]:
    """Return values by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _dotted(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat


def _typed(value: object) -> str:
    """As one types it."""
    return value if isinstance(value, str) else json.dumps(value)


def _are_places_of_one_name(before: object, here: object) -> bool:
    places = isinstance(before, str) and isinstance(here, str) and os.sep in before + here
    return places and Path(str(before)).name == Path(str(here)).name


def _require_fit(
    path: str, weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], advice: Advice
) -> None:
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    ours = {name: tuple(tensor.shape) for name, tensor in own.items()}
    different = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    if different:
        raise MismatchError(f"{path} belongs to another model ({different[0]} differs): {advice.model}.")


def _bring(old: Path, new: Path) -> None:
    if old == new:
        return
    if not old.is_file():
        raise DataError(
            f"the best epoch of the interrupted run is not at {old}: keep best.ckpt in the folder of last.ckpt."
        )
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(old, new)
