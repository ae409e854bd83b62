"""Weights of cell-gears in our network."""

import re

from torch import Tensor

from pertexp.errors import DataError
from pertexp.models.gears.network import GearsNetwork, Scope
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
