"""Early stopping and the best epoch, counted from an epoch on."""

import logging
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from pertexp.training.checkpoints import KeepBest

log = logging.getLogger(__name__)


class EarlyStoppingFromEpoch(EarlyStopping):
    """Early stopping that begins to count at an epoch, as the monitored quantity means little before.

    Parameters
    ----------
    first_epoch
        The first epoch, from 0, that counts.
    monitor, patience, mode
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


class KeepBestFromEpoch(KeepBest):
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
        if ends_before(trainer, self.first_epoch):
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


def ends_before(trainer: Any, epoch: int) -> bool:
    """Return whether training ends before this epoch, from 0; a trial run of few batches (debug=fast) is not asked."""
    limit = trainer.max_epochs
    return not trainer.fast_dev_run and limit is not None and 0 <= limit <= epoch
