"""GEARS compared with cell-gears 0.1.2 in one run: the same cells, weights, graphs and batches.

    bash benchmarks/peers/gears/environment.sh <peer folder>
    OMP_NUM_THREADS=1 python benchmarks/gears.py --peer <peer folder> --gene-sets <go_bp_2021.enrichr.gmt>

A simulated screen of 5,000 genes under the names of annotated genes; batches of 32 cells with 26 or more distinct
perturbation sets; width 64. The peer works in its own environment, first and alone. Every ratio is peer / pertexp, but
for bytes, which are pertexp / peer.
"""

import argparse
import functools
import json
import logging
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pertexp.data.screens.annotations import GeneSets
from pertexp.data.screens.batch_layouts import MatchedControlBatches
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.embeddings import TrainingPca
from pertexp.data.screens.pseudobulk import cell_rows
from pertexp.data.screens.screen import CONTROL, Screen
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation
from pertexp.losses.gears import GearsLoss
from pertexp.models.gears import GEARS
from pertexp.models.gears.network import Sets, distinct_rows, first_apart
from pertexp.models.gears.released import from_released
from pertexp.nn.graph import Graph
from pertexp.nn.similarity import jaccard_graph

STEPS = 10
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
# Of one thread the seconds that it computed, which others on the machine do not change; of several those on the wall.
CLOCK = time.process_time if THREADS == 1 else time.perf_counter
ADAM = functools.partial(torch.optim.Adam, lr=1e-3, weight_decay=5e-4)
WORKER = Path(__file__).parent / "peers" / "gears" / "worker.py"


class NamedScreenData(SimulatedScreenData):
    """Simulated cells under the names of annotated genes, so that both packages find them in their graph."""

    names: tuple[str, ...]

    def read(self) -> Screen:
        """Simulate, then rename."""
        screen = super().read()
        renamed = dict(zip(screen.genes.tolist(), self.names, strict=False))
        genes = np.array([renamed[gene] for gene in screen.genes])
        alone = [renamed[name] for name in screen.perturbations[1:]]
        order = np.argsort(alone, kind="stable")
        place = np.concatenate([[0], 1 + np.argsort(order)])
        named = (CONTROL, *(alone[row] for row in order))
        return replace(screen, genes=genes, perturbations=named, perturbation=place[screen.perturbation], truth=None)


def screen_data(gene_sets: str, n_genes: int) -> NamedScreenData:
    data = NamedScreenData(
        name="benchmark",
        simulator=SimulatedScreen(
            n_genes=n_genes,
            n_perturbations=90,
            n_combinations=0,
            cells_per_perturbation=8,
            n_controls=120,
            measured_share=1.0,
        ),
        split=UnseenPerturbation(folds=9, val_fraction=0.12),
        gene_embedding=TrainingPca(),
        perturbation_embedding=TrainingPca(),
        annotation=GeneSets(gene_sets),
        normalize=True,
        batches=MatchedControlBatches(match="any", drop_last=True),
        batch_size=32,
        min_cells=1,
    )  # fmt: skip
    assert data.annotation is not None
    annotated = data.annotation(SimulatedScreen(n_genes=1, n_perturbations=1, n_combinations=0)()).genes
    data.names = annotated[: 2 * n_genes : 2]
    return data


def hand_over(data: NamedScreenData, folder: Path) -> None:
    """Write the cells and the ontology graph as the peer reads them."""
    design = data.design
    names = np.array(["ctrl", *(f"{name}+ctrl" for name in design.screen.perturbations[1:])])
    role = np.where(design.role == "control", "train", design.role)
    obs = pd.DataFrame({"condition": names[design.screen.perturbation], "cell_type": "cell", "role": role})
    obs.index = pd.Index([f"cell{number}" for number in range(len(obs))])
    genes = pd.Index(design.screen.genes, dtype=str)
    var = pd.DataFrame({"gene_name": genes.to_numpy()}, index=genes)
    anndata.AnnData(design.screen.expression, obs, var).write_h5ad(folder / "cells.h5ad")
    assert data.annotation is not None
    annotation = data.annotation(design.screen)
    graph = jaccard_graph(annotation.marks, 20, 0.1)
    named = np.array(annotation.genes)
    pd.DataFrame({
        "source": named[graph.source], "target": named[graph.target], "importance": graph.weight.numpy()
    }).to_csv(folder / "graph.csv", index=False)  # fmt: skip


def seconds(action: Callable[[], Any]) -> float:
    start = CLOCK()
    action()
    return CLOCK() - start


def released(folder: Path, scope: Any) -> Any:
    start = torch.load(folder / "start.pt", weights_only=True)
    graphs = start["graphs"]
    sizes = (len(start["weights"]["gene_emb.weight"]), len(start["weights"]["pert_emb.weight"]))
    coexpress, ontology = (
        Graph(graphs[name][0], graphs[name][1], graphs[f"{name}_weight"], size)
        for name, size in zip(("G_coexpress", "G_go"), sizes, strict=True)
    )
    return from_released(start["weights"], coexpress, ontology, scope)


def as_batch(folder: Path) -> tuple[dict[str, Any], Sets, Tensor]:
    """Return the peer's batch: its tensors, its distinct sets, and the set of each cell."""
    batch = torch.load(folder / "batch.pt", weights_only=True)
    keys = [tuple(node for node in own if node != -1) for own in batch["pert_idx"]]
    distinct = sorted(set(keys))
    sets = Sets.of([[(node, 1.0) for node in own] for own in distinct])
    return batch, sets, torch.tensor([distinct.index(key) for key in keys])


class Stepper:
    """One training step on the peer's batch, all that the real step does."""

    def __init__(self, folder: Path, scope: Any) -> None:
        self.network = released(folder, scope).train()
        batch, self.sets, self.perturbation = as_batch(folder)
        shape = (len(self.perturbation), -1)
        self.x, self.y = batch["x"].reshape(shape), batch["y"].reshape(shape)
        self.expected, self.loss = batch["out"], GearsLoss(direction="sign")
        self.optimizer = ADAM(self.network.parameters())
        self.counted = torch.ones_like(self.y, dtype=torch.bool)

    def predicted(self) -> Tensor:
        """Every cell of the batch."""
        released = self.network.scope == "first_cell"
        own = first_apart(self.perturbation) if released else torch.zeros_like(self.perturbation)
        rows = distinct_rows(self.perturbation, own)
        delta, _ = self.network(self.sets.take(rows.set), rows.weight, rows.variant)
        predicted: Tensor = self.x + delta[rows.of_cell]
        return predicted

    def value(self) -> Tensor:
        """Return the loss of the batch."""
        return self.loss(self.predicted(), self.y, self.x.mean(dim=0), self.perturbation, self.counted)

    def step(self) -> None:
        """One step of the optimizer."""
        self.optimizer.zero_grad()
        torch.autograd.backward(self.value())
        torch.nn.utils.clip_grad_value_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.network.project_()

    def saved_bytes(self) -> int:
        """Bytes kept for the backward pass, parameters left out, each storage once."""
        own = {parameter.untyped_storage().data_ptr() for parameter in self.network.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.layout == torch.strided and tensor.untyped_storage().data_ptr() not in own:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self.value()
        return sum(kept.values())


def one_epoch(data: NamedScreenData) -> float:
    """Training and validation by the real trainer."""
    model = GEARS.from_data(data, GearsLoss(), ADAM, ontology={"nodes": "annotated"})
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=1.0, gradient_clip_algorithm="value",
    )  # fmt: skip
    return seconds(lambda: trainer.fit(model, datamodule=data))


def predict_seconds(data: NamedScreenData) -> tuple[float, float]:
    """Per perturbation: of 32 asked for together, and of one alone."""
    model = GEARS.from_data(data, GearsLoss(), ADAM, ontology={"nodes": "annotated"})
    asked = [[name] for name in model.nodes[:32]]
    model.predict_sets(asked)
    together = statistics.median(seconds(lambda: model.predict_sets(asked)) for _ in range(5)) / len(asked)
    return together, statistics.median(seconds(lambda: model.predict_sets(asked[:1])) for _ in range(5))


def say(name: str, theirs: float, ours: float, unit: str, *, smaller: bool = False) -> None:
    ratio = f"{ours / theirs:8.1%}" if smaller else f"{theirs / ours:7.1f} x"
    print(f"{name:44s} {theirs:12.4g} {ours:12.4g} {unit:4s} {ratio}")


def compare(figures: dict[str, Any], folder: Path, data: NamedScreenData) -> None:
    print(
        f"{figures['genes']} genes, {figures['perturbations']} nodes, {figures['distinct']} distinct sets in 32 cells"
    )
    print(f"{'':44s} {'cell-gears':>12s} {'pertexp':>12s}")
    theirs = statistics.median(figures["step_seconds"])
    for scope in ("all", "first_cell"):
        stepper = Stepper(folder, scope)
        if scope == "first_cell":
            off = (stepper.predicted() - stepper.expected).abs().max().item()
            print(f"largest difference of an output (float32): {off:.1e}")
            assert off < 1e-3
        stepper.step()
        ours = statistics.median(seconds(stepper.step) for _ in range(STEPS))
        say(f"training step, scope {scope}", theirs, ours, "s")
        say(
            f"kept for the backward pass, scope {scope}",
            figures["saved_bytes"],
            stepper.saved_bytes(),
            "B",
            smaller=True,
        )
    say("epoch", figures["epoch_seconds"], one_epoch(data), "s")
    together, alone = predict_seconds(data)
    theirs = statistics.median(figures["predict_seconds"])
    say("predict, a perturbation of 32 together", theirs, together, "s")
    say("predict, a perturbation alone", theirs, alone, "s")
    design = data.design
    say(
        "dataset from cells in memory",
        figures["build_seconds"],
        min(seconds(lambda: cell_rows(design)) for _ in range(3)),
        "s",
    )
    rows = cell_rows(design)
    matrix = rows.counts
    stored = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    beside = sum(getattr(rows, name).nbytes for name in ("perturbation", "context", "phase", "log_size", "cells"))
    say("dataset, bytes", figures["dataset_bytes"], stored + beside, "B", smaller=True)
    print(f"of that beside the CSR: {beside / stored:.1%}")


def graph_seconds(data: NamedScreenData) -> None:
    assert data.annotation is not None
    annotation = data.annotation(data.design.screen)
    marks = annotation.rows(annotation.genes[:10_000])
    print(f"ontology graph of 10,000 genes: {seconds(lambda: jaccard_graph(marks, 20, 0.1)):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--peer", required=True, help="folder that environment.sh made")
    parser.add_argument("--gene-sets", required=True, help="GO biological process as .gmt")
    parser.add_argument("--genes", type=int, default=5000)
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    data = screen_data(asked.gene_sets, asked.genes)
    graph_seconds(data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        hand_over(data, folder)
        subprocess.run(  # what it says of itself goes to a file: its loops are talkative
            [f"{asked.peer}/bin/python", WORKER.resolve(), folder, Path(asked.gene_sets).resolve()],
            check=True, cwd=folder, stdout=(folder / "said").open("w"),
            env={**os.environ, "OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": ""},
        )  # fmt: skip
        compare(json.loads((folder / "figures.json").read_text()), folder, data)


if __name__ == "__main__":
    main()
