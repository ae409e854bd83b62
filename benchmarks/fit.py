"""Time to fit K to equal training deviance: pertexp against a plain PyTorch loop, one run, the same counts.

Run as `python benchmarks/fit.py [--tolerance 1e-3]`. Run with OMP_NUM_THREADS=1 for one thread each.

The plain loop is the usual way to write this model down: K = 0, b = 0, single cells by per-item indexing, lgamma in
the likelihood. Model, control means, θ, optimizer, learning rate and batch size are equal. Fitting ends once the NB
deviance over all training cells is within the tolerance of its minimum (found by L-BFGS). Checks are not timed; θ and
control means are.
"""

import argparse
import functools
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from pertexp.data.screens.batch_layouts import BatchLayout, CellBatches, PseudobulkBatches
from pertexp.data.screens.datamodule import ScreenData, SimulatedScreenData
from pertexp.data.screens.embeddings import Planted
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation
from pertexp.losses.counts import nb
from pertexp.models.nbglm import NBGLM
from pertexp.models.nbglm.network import NBGLMNetwork

SCREEN = SimulatedScreen(n_genes=300, n_perturbations=80, n_combinations=0, cells_per_perturbation=100)
BATCH, LEARNING_RATE, MOST_EPOCHS = 512, 5e-3, 200
ADAMW = functools.partial(torch.optim.AdamW, lr=LEARNING_RATE, weight_decay=0.0)


def screen_data(batches: BatchLayout) -> ScreenData:
    return SimulatedScreenData(
        name="simulated_screen",
        simulator=SCREEN,
        split=UnseenPerturbation(folds=5, fold=0, val_fraction=0.15, seed=0),
        gene_embedding=Planted(of="genes"),
        perturbation_embedding=Planted(of="perturbations"),
        batches=batches,
        batch_size=BATCH,
    )


class Cells(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Training cells of a screen, one dictionary an item."""

    def __init__(self, data: ScreenData) -> None:
        design = data.design
        self.rows = np.flatnonzero(design.cells("train", "control"))
        self.screen, self.log_size = design.screen, np.log(design.size_factor).astype(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, Tensor]:
        row = self.rows[item]
        return {
            "counts": torch.from_numpy(self.screen.expression[row].toarray()[0]),
            "perturbation": torch.tensor(self.screen.perturbation[row]),
            "context": torch.tensor(self.screen.context[row]),
            "phase": torch.tensor(0),
            "log_size": torch.tensor(self.log_size[row]),
        }


def all_cells(cells: Cells) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = torch.utils.data.default_collate([cells[item] for item in range(len(cells))])
    return batch


def log_mean(network: NBGLMNetwork, batch: dict[str, Tensor]) -> Tensor:
    log_mu: Tensor = network(batch["perturbation"], batch["context"], batch["phase"], batch["log_size"])
    return log_mu


@dataclass
class Stopwatch:
    """Seconds of fitting without those of checking, until the deviance over all cells is at the target."""

    cells: dict[str, Tensor]
    target: float
    seconds: float = 0.0
    steps: int = 0
    deviance: float = float("inf")
    since: float = field(default_factory=time.perf_counter)

    def reached(self, network: NBGLMNetwork) -> bool:
        """Whether the target is reached; the check itself takes no time."""
        self.seconds += time.perf_counter() - self.since
        with torch.no_grad():
            self.deviance = 2 * float(half_deviance(network, self.cells))
        self.since = time.perf_counter()
        return self.deviance <= self.target


def half_deviance(network: NBGLMNetwork, cells: dict[str, Tensor]) -> Tensor:
    ones = torch.ones_like(cells["log_size"])
    return nb.at_fixed_theta()(cells["counts"], log_mean(network, cells), network.theta, ones).mean()


class StopAtTarget(lightning.Callback):
    """Asks the stopwatch after each epoch."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Stop where the deviance is low enough."""
        trainer.should_stop = self.watch.reached(pl_module.network)
        self.watch.steps = trainer.global_step


def pertexp_fit(data: ScreenData, watch: Stopwatch) -> None:
    """Closed-form start, then the real trainer, on cells or on their sums; summing is timed."""
    model = NBGLM.from_data(data, nb, ADAMW)
    trainer = lightning.Trainer(
        max_epochs=MOST_EPOCHS,
        accelerator="cpu",
        logger=False,
        callbacks=[StopAtTarget(watch)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        gradient_clip_val=1.0,
    )
    if not watch.reached(model.network):
        trainer.fit(model, datamodule=data)


def plain_fit(data: ScreenData, watch: Stopwatch) -> None:
    """K = 0, then cells by per-item indexing and the likelihood by lgamma."""
    network = NBGLM.from_data(data, nb, ADAMW, start={"kind": "zero"}).network
    optimizer = ADAMW(network.parameters())
    loader = torch.utils.data.DataLoader(Cells(data), batch_size=BATCH, shuffle=True)
    for _ in range(MOST_EPOCHS):
        if watch.reached(network):
            return
        for batch in loader:
            optimizer.zero_grad()
            torch.autograd.backward(negative_log_likelihood(network, batch))
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            watch.steps += 1


def negative_log_likelihood(network: NBGLMNetwork, batch: dict[str, Tensor]) -> Tensor:
    y, mu, theta = batch["counts"], log_mean(network, batch).exp(), network.theta
    constant = torch.lgamma(y + theta) - torch.lgamma(theta) - torch.lgamma(y + 1)
    return -(constant + theta * (theta / (theta + mu)).log() + y * (mu / (theta + mu)).log()).mean()


def least_deviance(data: ScreenData, cells: dict[str, Tensor]) -> float:
    """Minimum over K and b of the mean deviance, by L-BFGS on all cells at once."""
    network = NBGLM.from_data(data, nb, ADAMW).network
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = half_deviance(network, cells)
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return 2 * float(closure())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tolerance", type=float, default=1e-3)
    tolerance = parser.parse_args().tolerance
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    single = screen_data(CellBatches())
    cells = all_cells(Cells(single))
    best = least_deviance(single, cells)
    print(f"{len(cells['log_size'])} cells x {SCREEN.n_genes} genes; least mean deviance {best:.5f}")
    ways: dict[str, tuple[Callable[[ScreenData, Stopwatch], None], ScreenData]] = {
        "plain loop, cells": (plain_fit, single),
        "pertexp, cells": (pertexp_fit, single),
        "pertexp, sums": (pertexp_fit, screen_data(PseudobulkBatches())),
    }
    reference = 0.0
    for name, (fit, data) in ways.items():
        data.setup("fit")
        watch = Stopwatch(cells, best * (1 + tolerance))
        fit(data, watch)
        reference = reference or watch.seconds
        ratio = reference / watch.seconds
        print(
            f"{name:18s} {watch.seconds:7.2f} s {watch.steps:5d} steps  "
            f"deviance {watch.deviance / best - 1:+.3%} of the least  {ratio:6.1f} x the plain loop"
        )


if __name__ == "__main__":
    main()
