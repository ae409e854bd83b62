"""Checkpoints that can be used elsewhere, and from which a killed run goes on to the same numbers."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from pertexp.errors import DataError


class KeepBest(ModelCheckpoint):
    """Lightning's checkpoint of the best epoch, which it does not lose when the run resumes in another folder."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Bring the best file of the interrupted run into this run's folder, then take its score over."""
        old, here = Path(state_dict["best_model_path"]), Path(str(self.dirpath))
        if state_dict["best_model_path"] and old.parent != here and old.is_file():
            here.mkdir(parents=True, exist_ok=True)
            brought = str(shutil.copy2(old, here / old.name))
            state_dict = {
                **state_dict,
                "dirpath": self.dirpath,
                "best_model_path": brought,
                "best_k_models": {brought: state_dict["best_model_score"]},
                "kth_best_model_path": brought,
            }
        super().load_state_dict(state_dict)


class EpochClock(Callback):
    """Tells the training loader which epoch begins: Lightning does so for its own samplers alone."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Not called when a run resumes in mid-epoch: the loader's own state says where it was."""
        loader: Any = trainer.train_dataloader
        loader.set_epoch(trainer.current_epoch)


class RandomState(Callback):
    """Saves the state of every random generator, so that a resumed run draws what the killed one would have drawn."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Put the states in as tensors and plain numbers: nothing that needs unpickling."""
        version, numbers, gauss = random.getstate()
        legacy: Any = np.random.get_state()  # noqa: NPY002
        name, keys, *rest = legacy
        checkpoint["random_state"] = {
            "python": [version, list(numbers), gauss],
            "numpy": [name, keys.tolist(), *rest],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Put the generators back where they were."""
        state = checkpoint.get("random_state")
        if state is None:
            return
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))  # noqa: NPY002
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])


class SchemaStamp(Callback):
    """Writes into every checkpoint what is needed to use it elsewhere, and refuses to resume on other data."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Genes and their order, perturbations, contexts, scale, split hash, versions: plain values."""
        checkpoint["schema"] = self.schema

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """DataError where the checkpoint was trained on another split or other genes."""
        other = checkpoint.get("schema", {})
        for key in ("genes", "perturbations", "contexts", "split_hash", "fold"):
            if key in other and other[key] != self.schema[key]:
                raise DataError(
                    f"the checkpoint was trained on other data ({key} differs): resume with the configuration of "
                    "its own run, or start anew without ckpt_path."
                )


def load_weights(module: LightningModule, path: str | Path) -> None:
    """Load the weights of a checkpoint; DataError where it is absent, truncated, foreign or holds code."""
    module.load_state_dict(read_checkpoint(path)["state_dict"])


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint as plain tensors and values, never as pickled objects."""
    if not Path(path).is_file():
        raise DataError(f"no checkpoint {path}: type ckpt_path=<run folder>/checkpoints/last.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch raises many kinds for a truncated, foreign or unsafe file
        raise DataError(
            f"{path} cannot be read as a checkpoint ({type(fault).__name__}): it may be truncated, foreign, or "
            "hold code, which is never run; name another with ckpt_path=..."
        ) from fault
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DataError(f"{path} holds no weights (`state_dict`): name a checkpoint that pertexp wrote.")
    return checkpoint
