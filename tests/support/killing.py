"""Callbacks for tests of interrupted runs: `+callbacks.<name>._target_=killing.<class>` on the command line."""

import os
import signal
from typing import Any

from lightning import Callback, Trainer


class Kill(Callback):
    """Ends the process as an operating system does, at the n-th call of a hook (counted from 1)."""

    def __init__(self, hook: str, call: int) -> None:
        self.hook = hook
        self.call = call
        self.count = 0

    def hit(self, hook: str) -> None:
        self.count += hook == self.hook
        if self.count == self.call and hook == self.hook:
            self.end()

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def on_train_epoch_start(self, *_: Any) -> None:
        self.hit("epoch_start")

    def on_train_batch_start(self, *_: Any) -> None:
        self.hit("batch_start")

    def on_train_batch_end(self, *_: Any) -> None:
        self.hit("batch_end")

    def on_validation_start(self, *_: Any) -> None:
        self.hit("validation_start")

    def on_train_epoch_end(self, *_: Any) -> None:
        self.hit("epoch_end")

    def on_train_end(self, *_: Any) -> None:
        self.hit("train_end")


class Fall(Kill):
    """The same by an exception, so that the process lives on to look at what is left."""

    def end(self) -> None:
        raise InterruptedError(f"{self.hook} {self.call}")


def rows_of(batch: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one batch from another: its pairs with their support, or its perturbations with their depths."""
    if "pair" in batch:
        return (*batch["pair"].tolist(), *batch["support_pair"].flatten().tolist(), int(batch["enhancer"].sum()))
    values = batch["counts"] if "counts" in batch else batch["profile"]
    return tuple(zip(batch["perturbation"].tolist(), values.sum(dim=1).tolist(), strict=True))


class Diary(Callback):
    """Writes down every hook, and which rows each batch held."""

    pages: list[tuple[Any, ...]] = []  # noqa: RUF012  (one diary for the process: the trainer builds its own callback)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.pages.append(("epoch_start", trainer.current_epoch))

    def on_train_batch_start(self, trainer: Trainer, _: Any, batch: dict[str, Any], index: int) -> None:
        self.pages.append(("batch", trainer.current_epoch, index, trainer.global_step, rows_of(batch)))

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.pages.append(("validation_end", trainer.current_epoch, float(trainer.callback_metrics["val/loss"])))

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self.pages.append(("epoch_end", trainer.current_epoch))

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self.pages.append(("train_end", trainer.current_epoch))


class Interrupt(Kill):
    """Stops the run as a person does, with Ctrl-C."""

    def end(self) -> None:
        raise KeyboardInterrupt
