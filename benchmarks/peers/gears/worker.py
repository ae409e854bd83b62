"""cell-gears 0.1.2 at work on the cells that `benchmarks/gears.py` hands it; run by the Python of its own environment.

    python worker.py <folder> <gene sets .gmt>

The folder holds cells.h5ad (log-normalised, `condition`, `cell_type`, `gene_name`) and graph.csv (source, target,
importance). It leaves the weights of the network, one batch with its output, and figures.json.
"""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scanpy as sc
import torch
from gears import GEARS, PertData
from gears.inference import evaluate
from gears.utils import loss_fct

BATCH, WIDTH, STEPS = 32, 64, 3
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
# Of one thread the seconds that it computed, which others on the machine do not change; of several those on the wall.
CLOCK = time.process_time if THREADS == 1 else time.perf_counter


def write_prior(folder: Path, gene_sets: Path) -> None:
    """Write the three files that the package would fetch, from a .gmt and the graph for the cells."""
    gene2go: dict[str, set[str]] = {}
    for line in gene_sets.read_text(encoding="utf-8").splitlines():
        term, _, *genes = line.split("\t")
        for gene in filter(None, (word.split(",")[0] for word in genes)):
            gene2go.setdefault(gene, set()).add(term)
    (folder / "gene2go_all.pkl").write_bytes(pickle.dumps(gene2go))
    (folder / "essential_all_data_pert_genes.pkl").write_bytes(pickle.dumps(sorted(gene2go)))
    (folder / "go_essential_all").mkdir(exist_ok=True)
    (folder / "graph.csv").replace(folder / "go_essential_all" / "go_essential_all.csv")


def seconds(action: Callable[[], Any]) -> float:
    start = CLOCK()
    action()
    return CLOCK() - start


def saved_bytes(action: Callable[[], torch.Tensor], model: torch.nn.Module) -> int:
    """Bytes that the graph of one loss keeps for its backward pass, parameters left out, each storage once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout == torch.strided and tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = action()
    loss.backward()
    return sum(kept.values())


class Trainer:
    """The body of the package's training loop, step by step."""

    def __init__(self, gears: Any) -> None:
        self.gears = gears
        self.optimizer = torch.optim.Adam(gears.model.parameters(), lr=1e-3, weight_decay=5e-4)

    def loss(self, batch: Any) -> torch.Tensor:
        """As the training loop calls it."""
        gears = self.gears
        return loss_fct(
            gears.model(batch), batch.y, batch.pert, ctrl=gears.ctrl_expression, dict_filter=gears.dict_filter,
            direction_lambda=0.1,
        )  # fmt: skip

    def step(self, batch: Any) -> None:
        """One step of the optimizer."""
        self.optimizer.zero_grad()
        self.loss(batch).backward()
        torch.nn.utils.clip_grad_value_(self.gears.model.parameters(), clip_value=1.0)
        self.optimizer.step()

    def epoch(self) -> None:
        """Training, then the evaluation of training and validation cells, as the package does each epoch."""
        self.gears.model.train()
        for batch in self.gears.dataloader["train_loader"]:
            self.step(batch)
        for name in ("train_loader", "val_loader"):
            evaluate(self.gears.dataloader[name], self.gears.model, False, "cpu")


def batch_of(loader: Any, distinct: int) -> Any:
    """Return the first batch with so many distinct perturbation sets."""
    return next(batch for _ in range(200) for batch in loader if len(set(batch.pert)) >= distinct)


def main() -> None:
    folder, gene_sets = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    torch.set_num_threads(THREADS)
    write_prior(folder, gene_sets)
    adata = sc.read_h5ad(folder / "cells.h5ad")
    split = {
        role: adata.obs.loc[adata.obs["role"] == role, "condition"].unique().tolist()
        for role in ("train", "val", "test")
    }
    (folder / "split.pkl").write_bytes(pickle.dumps(split))
    data = PertData(str(folder))
    data.new_data_process("cells", adata=adata)
    figures: dict[str, Any] = {"build_seconds": seconds(data.create_dataset_file)}
    cells = [cell for own in data.dataset_processed.values() for cell in own]
    figures["dataset_bytes"] = sum(cell.x.nbytes + cell.y.nbytes for cell in cells)
    figures["cells"] = len(cells)
    data.prepare_split(split="custom", seed=1, split_dict_path=str(folder / "split.pkl"))
    data.get_dataloader(BATCH, BATCH)
    gears = GEARS(data, device="cpu")
    gears.model_initialize(hidden_size=WIDTH)
    config = {key: gears.config[key] for key in ("G_go", "G_go_weight", "G_coexpress", "G_coexpress_weight")}
    batch = batch_of(data.dataloader["train_loader"], 26)
    trainer = Trainer(gears)
    trainer.step(batch)  # brings the embeddings into the unit ball, and warms up
    torch.save(
        {"weights": {k: v.clone() for k, v in gears.model.state_dict().items()}, "graphs": config}, folder / "start.pt"
    )
    sets = [[int(node) for node in own] for own in batch.pert_idx]
    out = gears.model.train()(batch).detach()
    torch.save({"x": batch.x, "y": batch.y, "pert_idx": sets, "out": out}, folder / "batch.pt")
    figures["step_seconds"] = [seconds(lambda: trainer.step(batch)) for _ in range(STEPS)]
    figures["saved_bytes"] = saved_bytes(lambda: trainer.loss(batch), gears.model)
    figures["epoch_seconds"] = seconds(trainer.epoch)
    gears.best_model = gears.model
    asked = [[name] for name in data.pert_names[:1]]
    figures["predict_seconds"] = [seconds(lambda own=own: gears.predict([own])) for own in asked]
    figures["distinct"] = len(set(batch.pert))
    figures["genes"], figures["perturbations"] = gears.num_genes, gears.num_perts
    (folder / "figures.json").write_text(json.dumps(figures))
    assert np.isfinite(figures["step_seconds"]).all()


if __name__ == "__main__":
    main()
