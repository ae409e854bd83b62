"""Frozen values of cell-gears 0.1.2 for our tests; run by the Python of its own environment.

    <folder>/bin/python benchmarks/peers/gears/golden.py tests/golden/gears.npz

Small networks with random graphs and shaken batch norms in float64: weights, outputs, gradients and running
statistics in training and evaluation, with controls, combinations, and one perturbed cell alone; values of both losses;
a split; the scores of a genetic interaction; a co-expression graph.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from gears import model, utils
from gears.data_utils import DataSplitter

GENES, PERTURBATIONS, WIDTH = 11, 7, 4
SCORES = ("c1", "c2", "mag", "dcor", "dcor_singles", "dcor_first", "dcor_second", "corr_fit", "dominance", "eq_contr")
BATCHES = {
    "mixed": [[2], [-1], [2, 5], [0], [2], [1, 5], [-1], [2, 5]],
    "one": [[-1], [3], [-1]],
    "control": [[-1], [-1], [-1]],
    "first": [[4], [4], [1], [4]],
}


def random_graph(rng: np.random.Generator, nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Directed edges, a self edge on most nodes, and a node without any."""
    pairs = {(int(a), int(b)) for a, b in rng.integers(0, nodes - 1, (3 * nodes, 2))}
    pairs |= {(node, node) for node in range(0, nodes - 1, 2)}
    edges = sorted(pairs)
    weight = np.array([1.0 if a == b else rng.uniform(0.1, 1.0) for a, b in edges])
    return torch.tensor(edges).T, torch.tensor(weight)


def network(rng: np.random.Generator, layers: int, uncertainty: bool) -> Any:
    coexpress, go = random_graph(rng, GENES), random_graph(rng, PERTURBATIONS)
    made = model.GEARS_Model({
        "num_genes": GENES, "num_perts": PERTURBATIONS, "hidden_size": WIDTH, "uncertainty": uncertainty,
        "num_go_gnn_layers": layers, "num_gene_gnn_layers": layers, "decoder_hidden_size": 16, "no_perturb": False,
        "G_coexpress": coexpress[0], "G_coexpress_weight": coexpress[1], "G_go": go[0], "G_go_weight": go[1],
        "device": "cpu",
    }).double()  # fmt: skip
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.normal_(1.0, 0.3)
                module.bias.normal_(0.0, 0.3)
                module.running_mean.normal_(0.0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
        for table in (made.gene_emb, made.pert_emb, made.emb_pos):
            table(torch.arange(table.num_embeddings))  # bring the rows into the unit ball
    return made


def store(into: dict[str, np.ndarray], name: str, tensor: torch.Tensor) -> None:
    into[name] = tensor.detach().numpy().copy()


def run_network(into: dict[str, np.ndarray], name: str, rng: np.random.Generator, layers: int, uncertain: bool) -> None:
    made = network(rng, layers, uncertain)
    for graph in ("G_coexpress", "G_coexpress_weight", "G_sim", "G_sim_weight"):
        store(into, f"{name}/graph/{graph}", getattr(made, graph))
    for key, value in made.state_dict().items():
        store(into, f"{name}/weights/{key}", value)
    start = {key: value.clone() for key, value in made.state_dict().items()}
    for batch in BATCHES if not uncertain else ("mixed", "one"):
        cells = len(BATCHES[batch])
        x = torch.from_numpy(rng.uniform(0, 3, (cells, GENES)))
        pull = torch.from_numpy(rng.normal(size=(cells, GENES)))
        store(into, f"{name}/{batch}/x", x)
        store(into, f"{name}/{batch}/pull", pull)
        for mode in ("train", "eval"):
            made.load_state_dict(start)
            made.train(mode == "train").zero_grad()
            run_batch(into, f"{name}/{batch}/{mode}", made, BATCHES[batch], x, pull)


def run_batch(
    into: dict[str, np.ndarray], at: str, made: Any, sets: list[list[int]], x: torch.Tensor, pull: torch.Tensor
) -> None:
    """Freeze outputs, gradients of a weighted sum of them, and running statistics afterwards."""
    cells = torch.arange(len(sets)).repeat_interleave(GENES)
    out = made(SimpleNamespace(x=x.reshape(-1, 1), pert_idx=sets, batch=cells))
    outs = out if isinstance(out, tuple) else (out,)
    sum(((n + 1) * pull * each).sum() for n, each in enumerate(outs)).backward()
    for n, each in enumerate(outs):
        store(into, f"{at}/out{n}", each)
    for key, parameter in made.named_parameters():
        if parameter.grad is not None:
            store(into, f"{at}/grad/{key}", parameter.grad)
    for key, value in made.named_buffers():
        store(into, f"{at}/buffer/{key}", value)


def run_losses(into: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    names = ["ctrl", "A+ctrl", "A+B", "A+ctrl", "ctrl", "A+ctrl"]
    kept = {"A+ctrl": [0, 2, 3, 7], "A+B": [1, 2, 9]}
    y, pred, logvar = (torch.from_numpy(rng.normal(size=(len(names), GENES))) for _ in range(3))
    control = torch.from_numpy(rng.normal(size=GENES))
    pred.requires_grad_()
    counted = np.ones((len(names), GENES), dtype=bool)
    for row, name in enumerate(names):
        if name in kept:
            counted[row] = np.isin(np.arange(GENES), kept[name])
    for key, value in {"y": y, "pred": pred, "logvar": logvar, "control": control}.items():
        store(into, f"loss/{key}", value)
    into["loss/condition"] = np.unique(names, return_inverse=True)[1]
    into["loss/counted"] = counted
    plain = utils.loss_fct(pred, y, names, ctrl=control, direction_lambda=0.1, dict_filter=kept)
    plain.backward()
    store(into, "loss/plain", plain)
    store(into, "loss/plain_grad", pred.grad)
    with torch.no_grad():  # on CPU the released function adds in place to a leaf, which raises under autograd
        ranking = utils.uncertainty_loss_fct(
            pred, logvar, y, names, reg=0.7, ctrl=control, direction_lambda=0.1, dict_filter=kept
        )
    store(into, "loss/ranking", ranking)


def run_splits(into: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    genes = [f"G{number:02d}" for number in range(24)]
    pairs = {"+".join(sorted(rng.choice(genes, 2, replace=False))) for _ in range(40)}
    conditions = ["ctrl", *(f"{gene}+ctrl" for gene in genes[:20]), *sorted(pairs)]
    into["split/conditions"] = np.array(conditions)
    for seed in (1, 2):
        screen = SimpleNamespace(obs=pd.DataFrame({"condition": conditions}))
        adata, groups = DataSplitter(screen, split_type="simulation").split_data(
            train_gene_set_size=0.75, combo_seen2_train_frac=0.75, seed=seed
        )
        into[f"split/{seed}/role"] = adata.obs["split"].to_numpy(dtype=str)
        for group, names in groups["test_subgroup"].items():
            into[f"split/{seed}/{group}"] = np.array(list(names), dtype=str)


def run_interactions(into: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    first, second = rng.normal(size=(2, 60))
    double = 0.8 * first + 0.4 * second + 0.05 * rng.normal(size=60)
    found = utils.get_GI_params({"A": first, "B": second, "A_B": double}, ["A", "B"])
    for name, profile in (("first", first), ("second", second), ("double", double)):
        into[f"interaction/{name}"] = profile
    for key in SCORES:
        into[f"interaction/{key}"] = np.array(found[key])


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    into: dict[str, np.ndarray] = {}
    run_network(into, "one", rng, 1, uncertain=False)
    run_network(into, "two", rng, 2, uncertain=True)
    run_losses(into, rng)
    run_splits(into, rng)
    run_interactions(into, rng)
    numbers = {name: value for name, value in into.items() if value.dtype.kind in "fib"}
    shapes = {name: [str(value.dtype), list(value.shape)] for name, value in numbers.items()}
    np.savez_compressed(  # one array of all numbers: a thousand small ones would be mostly headers
        sys.argv[1],
        numbers=np.concatenate([value.ravel().astype(np.float64) for value in numbers.values()]),
        shapes=np.array(json.dumps(shapes)),
        **{name.replace("/", "|"): value for name, value in into.items() if name not in numbers},
    )


if __name__ == "__main__":
    main()
