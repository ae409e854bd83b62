"""Training in stages: what sleeps in the first epochs, and stopping that waits for the terms to bite."""

import logging
from typing import Any, Protocol, runtime_checkable

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from pertexp.errors import MismatchError, RequestError
from pertexp.training.checkpoints import KeepBest

log = logging.getLogger(__name__)


@runtime_checkable
class Staged(Protocol):
    """A model with a part that sleeps at first."""

    def begin_epoch(self, awake: int | None) -> None:
        """An epoch begins: the part sleeps (None), or has been awake for so many epochs."""


class Curriculum(Callback):
    """Lets a part of the model sleep, frozen, in the first epochs.

    Parameters
    ----------
    frozen_epochs
        Epochs before it wakes; 0: it never sleeps.
    """

    def __init__(self, frozen_epochs: int = 2) -> None:
        if frozen_epochs < 0:
            raise RequestError(f"callbacks.curriculum.frozen_epochs={frozen_epochs}: expected 0 or more.")
        self.frozen_epochs = frozen_epochs

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a model without stages; say where the part never wakes."""
        if not isinstance(pl_module, Staged):
            raise MismatchError(
                f"callbacks.curriculum trains in stages, which {type(pl_module).__name__} does not have: leave it "
                "out with ~callbacks.curriculum, or type callbacks=default."
            )
        for said in self._in_vain(trainer):
            log.warning(said)

    def _in_vain(self, trainer: Trainer) -> list[str]:
        """What is chosen, or scored, asleep."""
        mine = f"callbacks.curriculum.frozen_epochs={self.frozen_epochs}"
        if _ends_before(trainer, self.frozen_epochs):
            return [
                f"{mine}, and trainer.max_epochs={trainer.max_epochs}: the environment sleeps to the end, so the score "
                "is that of a model without it; train longer, or type callbacks.curriculum.frozen_epochs=0."
            ]
        held: list[Any] = list(trainer.callbacks)  # type: ignore[attr-defined]
        early = {
            "best" if isinstance(one, KeepBestAfter) else "early_stopping": one.first_epoch
            for one in held
            if isinstance(one, KeepBestAfter | StopAfter) and one.first_epoch < self.frozen_epochs
        }
        return [
            f"callbacks.{name}.first_epoch={first}, and {mine}: an epoch in which the environment sleeps "
            f"counts; type callbacks.{name}.first_epoch={self.frozen_epochs} or more."
            for name, first in early.items()
        ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that resumes within an epoch does not see its start."""
        self._tell(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how long the part has been awake."""
        self._tell(trainer, pl_module)

    def _tell(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, Staged)  # noqa: S101
        awake = trainer.current_epoch - self.frozen_epochs
        module.begin_epoch(awake if awake >= 0 else None)


def warn_without_stages(model: object, callbacks: list[Any]) -> None:
    """Say where a model has stages and no callback leads it through them."""
    if isinstance(model, Staged) and not any(isinstance(one, Curriculum) for one in callbacks):
        log.warning(
            "%s has stages, and no callback leads it through them: nothing sleeps and no weight of a term ramps; type "
            "callbacks=curriculum, or callbacks.curriculum.frozen_epochs=0 beside it to have the ramps alone.",
            type(model).__name__,
        )


class StopAfter(EarlyStopping):
    """Early stopping that begins to count at an epoch: before, what it watches is not yet what is trained for.

    Parameters
    ----------
    first_epoch
        The first epoch, from 0, that counts.
    options
        As Lightning's.
    """

    def __init__(self, monitor: str, first_epoch: int = 0, patience: int = 3, mode: str = "min") -> None:
        super().__init__(monitor=monitor, patience=patience, mode=mode)
        self.first_epoch = first_epoch

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count, or not yet."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count, or not yet."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_train_epoch_end(trainer, pl_module)


class KeepBestAfter(KeepBest):
    """The best epoch among those from an epoch on.

    Parameters
    ----------
    first_epoch
        The first epoch, from 0, that may be kept.
    dirpath, filename, monitor, mode
        As Lightning's.
    """

    def __init__(self, dirpath: str, filename: str, monitor: str, first_epoch: int = 0, mode: str = "min") -> None:
        super().__init__(
            dirpath=dirpath, filename=filename, monitor=monitor, mode=mode, save_top_k=1, enable_version_counter=False
        )
        self.first_epoch = first_epoch

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Say where training ends before an epoch may be kept."""
        if _ends_before(trainer, self.first_epoch):
            log.warning(
                "callbacks.best.first_epoch=%d, and trainer.max_epochs=%d: no epoch is chosen by %s, and the last one "
                "is scored; train longer, or type a smaller callbacks.best.first_epoch.",
                self.first_epoch,
                trainer.max_epochs,
                self.monitor,
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep, or not yet."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep, or not yet."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_train_epoch_end(trainer, pl_module)


def _ends_before(trainer: Any, epoch: int) -> bool:
    """Whether training ends before this epoch, from 0; a trial run of few batches (debug=fast) is not asked."""
    limit = trainer.max_epochs
    return not trainer.fast_dev_run and limit is not None and 0 <= limit <= epoch
