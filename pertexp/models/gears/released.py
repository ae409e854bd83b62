"""Weights of cell-gears in our network."""

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pertexp.config.errors import DataError
from pertexp.data.screens.profiles import SCALE_NAMES
from pertexp.data.screens.released import ControlMeans
from pertexp.data.screens.screen import CONTROL
from pertexp.losses.gears import GearsLoss
from pertexp.models.gears.module import GEARS
from pertexp.models.gears.network import GearsNetwork, Scope
from pertexp.models.gears.options import GearsOptions, Neighbours, Ontology
from pertexp.nn.graph import Graph, normalised

UNREAD = ("pert_w.", "bn_pert_base_trans.")  # made by the released class, read by nothing


def from_released(
    weights: dict[str, Tensor], coexpression: Graph, perturbations: Graph, scope: Scope = "first_cell"
) -> GearsNetwork:
    """Our network with the weights of a released `model.pt`, its sizes read off them.

    Parameters
    ----------
    weights
        State of the released model; a `module.` before every name (as of data-parallel training) is dropped.
    coexpression, perturbations
        The graphs that it was trained with: `G_coexpress` and `G_go` of its configuration.
    scope
        Where the co-expression graph acts; `first_cell` is what the released model does.

    Raises
    ------
    DataError
        Where a name or a shape is not that of a released model.
    """
    own = {re.sub(r"^module\.", "", name): tensor for name, tensor in weights.items()}
    own = {name: tensor for name, tensor in own.items() if not name.startswith(UNREAD)}
    if "indv_w1" not in own or own["indv_w1"].ndim != 3:
        raise DataError(
            f"these are no weights of cell-gears (found {', '.join(sorted(own)[:4])}, ...): name its model.pt."
        )
    network = GearsNetwork(
        normalised(coexpression),
        normalised(perturbations),
        n_genes=own["indv_w1"].shape[0],
        width=own["indv_w1"].shape[1],
        coexpress_layers=_count(own, "layers_emb_pos"),
        perturbation_layers=_count(own, "sim_layers"),
        scope=scope,
        uncertainty=any(name.startswith("uncertainty_w.") for name in own),
    ).to(own["indv_w1"].dtype)
    ours = network.state_dict()
    graphs = {name for name in ours if name.startswith(("coexpression.", "ontology."))}
    wrong = sorted(
        name for name in own.keys() | ours.keys() - graphs
        if name not in own or name not in ours or own[name].shape != ours[name].shape
    )  # fmt: skip
    if wrong:
        raise DataError(f"{wrong[0]} is not as cell-gears 0.1.2 writes it: convert a model.pt of that release.")
    network.load_state_dict({**{name: ours[name] for name in graphs}, **own})
    network.project_()
    return network


def _count(weights: dict[str, Tensor], name: str) -> int:
    return len({key.split(".")[1] for key in weights if key.startswith(f"{name}.")})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return a released `model.pt`, as tensors alone; DataError where it is missing, cannot be read or holds code."""
    if not Path(path).is_file():
        raise DataError(f"no file {path}: name the folder that GEARS.save_model wrote, with model.pt and config.pkl.")
    try:
        with warnings.catch_warnings():  # of unusual pickles, which the sentence below is about
            warnings.simplefilter("ignore")
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch raises many kinds for a file that is truncated, of another format or unsafe
        raise DataError(
            f"{path} cannot be read as weights ({type(fault).__name__}): it may be truncated, of another format, "
            "or hold code, which is never run."
        ) from fault
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataError(f"{path} holds no weights: name the model.pt that GEARS.save_model wrote.")
    return weights


def checkpoint_of(
    weights: dict[str, Tensor], config: Any, cells: ControlMeans, nodes: tuple[str, ...]
) -> dict[str, Any]:
    """Return a checkpoint of ours with the weights, graphs and names of a released model.

    It predicts as the released model does (`reference_mode`), from the mean of all control cells in place of 300 drawn.

    Raises
    ------
    DataError
        Where graphs are missing, or names and weights differ in number.
    """
    graphs = [_graph(config, name) for name in ("G_coexpress", "G_go")]
    for name, found, expected in (
        ("genes in the cells", len(cells.genes), graphs[0].n_nodes),
        ("genes in the perturbation graph", len(nodes), graphs[1].n_nodes),
    ):
        if found != expected:
            raise DataError(
                f"there are {found} {name}, the model has {expected}: name the files that it was trained with."
            )
    network = from_released(weights, graphs[0], graphs[1])
    options = GearsOptions(
        hidden_size=network.indv_w1.shape[1],
        coexpress=Neighbours(
            k=config["num_similar_genes_co_express_graph"],
            threshold=config["coexpress_threshold"],
            layers=len(network.layers_emb_pos),
        ),
        ontology=Ontology(k=config["num_similar_genes_go_graph"], layers=len(network.sim_layers)),
        reference_mode=True,
    )
    loss = GearsLoss(direction="sign", uncertainty="ranking" if network.uncertainty_w is not None else "none")
    module = GEARS(
        network,
        options,
        loss,
        torch.optim.Adam,
        genes=cells.genes,
        contexts=cells.contexts,
        nodes=nodes,
        perturbations=(CONTROL,),
        control=torch.from_numpy(cells.mean).float(),
    )
    return {"state_dict": module.state_dict(), **_meaning(module, cells)}


def _meaning(module: GEARS, cells: ControlMeans) -> dict[str, Any]:
    """Return what a checkpoint says in addition to the weights: schema, and what restores the model."""
    schema = {
        "genes": list(cells.genes),
        "perturbations": [CONTROL],
        "contexts": list(cells.contexts),
        "scale": "log1p",
        "profile_scale": SCALE_NAMES["log1p"],
        "split_hash": "",
        "fold": 0,
    }
    columns = {"perturbation_key": "condition", "control": "ctrl", "context_key": "cell_type"}
    restore = {
        "model": {"_target_": "pertexp.models.gears.GEARS.from_data", "name": "gears"},
        "data": {**columns, "gene_symbol_key": "gene_name", "scale": "log1p"},
        "task": "screens",
        "vocabulary": module.vocabulary.stored(),
        "control": module.control,
        "size_factors": torch.ones(len(cells.contexts), 1),
        "median_depth": None,
    }
    return {"schema": schema, "restore": restore}


def _graph(config: Any, name: str) -> Graph:
    """Return a graph of a released configuration: edges `[2, E]`, weights `[E]`, and as many nodes as it says."""
    sizes = {"G_coexpress": "num_genes", "G_go": "num_perts"}
    wanted = (name, f"{name}_weight", sizes[name])
    if not isinstance(config, dict) or any(key not in config for key in wanted):
        raise DataError(f"config.pkl has no {' or '.join(wanted)}: name the folder that GEARS.save_model wrote.")
    edges, weight = config[name], config[f"{name}_weight"]
    if not (isinstance(edges, Tensor) and isinstance(weight, Tensor) and edges.shape == (2, weight.numel())):
        raise DataError(f"{name} of config.pkl is no graph: expected edges [2, E] and weights [E].")
    return Graph(edges[0], edges[1], weight, int(config[sizes[name]]))
