"""For tests of distributed runs: a callback, `+callbacks.same._target_=processes.SameState`, and plain processes."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from pertexp.training.epoch_metrics import PairEpochMetrics


def distinct(tensors: Iterable[Tensor]) -> int:
    """How many different versions of these tensors the processes hold."""
    raw = b"".join(one.detach().numpy().tobytes() for one in tensors)
    found: list[str] = [""] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, hashlib.sha256(raw).hexdigest())
    return len(set(found))


class SameState(Callback):
    """Says, epoch by epoch, how many versions there are of parameters after it, and of buffers as steps read them."""

    def __init__(self) -> None:
        self.buffers = 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ARG002
        pl_module.network.register_forward_pre_hook(lambda *_: self._look(pl_module))

    def _look(self, module: LightningModule) -> None:
        if module.training:
            self.buffers = max(self.buffers, distinct(module.buffers()))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = distinct(pl_module.parameters())
        if trainer.is_global_zero:
            print(f"epoch {trainer.current_epoch}: {weights} of weights, {self.buffers} of buffers")


def in_processes(folder: Path, function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
    """What a function of this module returns in each process of a group, one process per argument."""
    torch.multiprocessing.spawn(_member, (folder, function, arguments), len(arguments))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(len(arguments))]


def _member(rank: int, folder: Path, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    address = f"file://{folder / 'group'}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=len(arguments))
    torch.save(function(arguments[rank]), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def values_of_epochs(epochs: Sequence[Sequence[tuple[Tensor, ...]]]) -> list[dict[str, float]]:
    """Metrics of epochs of batches of pairs, as this process sees them."""
    metrics, values = PairEpochMetrics(), []
    for batches in epochs:
        for batch in batches:
            metrics.update(*batch)
        values.append(metrics.compute())
        metrics.reset()
    return values
