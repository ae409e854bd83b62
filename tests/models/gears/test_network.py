"""The GEARS network against frozen values of cell-gears 0.1.2, and against itself written cell by cell."""

import numpy as np
import pytest
import torch
from frozen import read_golden
from torch import nn

from pertexp.models.gears.network import GearsNetwork, Sets, distinct_rows, first_apart
from pertexp.models.gears.released import from_released
from pertexp.nn.graph import Graph, normalised
from pertexp.nn.weighted_norm import Perceptron, WeightedBatchNorm

BATCHES = {
    "mixed": [[2], [], [2, 5], [0], [2], [1, 5], [], [2, 5]],
    "one": [[], [3], []],
    "control": [[], [], []],
    "first": [[4], [4], [1], [4]],
}


@pytest.fixture(scope="module")
def golden():
    return read_golden("gears")


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def released(golden, name: str) -> GearsNetwork:
    """Our network with the weights and graphs of the released one, co-expression in the first cell alone."""
    start = f"{name}/weights/"
    weights = {key[len(start) :]: torch.from_numpy(value) for key, value in golden.items() if key.startswith(start)}
    graphs = []
    for edges in ("G_coexpress", "G_sim"):
        source, target = torch.from_numpy(golden[f"{name}/graph/{edges}"])
        n_nodes = len(weights["gene_emb.weight" if edges == "G_coexpress" else "pert_emb.weight"])
        graphs.append(Graph(source, target, torch.from_numpy(golden[f"{name}/graph/{edges}_weight"]), n_nodes))
    return from_released(weights, graphs[0], graphs[1], scope="first_cell")


def sets_of(batch: str) -> tuple[Sets, torch.Tensor]:
    """The distinct sets of a batch, and the set of each cell."""
    distinct = [list(own) for own in {tuple(own): None for own in BATCHES[batch]}]
    index = torch.tensor([distinct.index(own) for own in BATCHES[batch]])
    return Sets.of([[(node, 1.0) for node in own] for own in distinct]), index


def cellwise(network: GearsNetwork, batch: str, x: torch.Tensor) -> list[torch.Tensor]:
    """Prediction and log variance of every cell."""
    sets, perturbation = sets_of(batch)
    rows = distinct_rows(perturbation, first_apart(perturbation))
    delta, log_variance = network(sets.take(rows.set), rows.weight, rows.variant)
    out = [x + delta[rows.of_cell]]
    return out if log_variance is None else [*out, log_variance[rows.of_cell]]


ROUNDING = 1e-14
CASES = [("one", batch) for batch in BATCHES] + [("two", "mixed"), ("two", "one")]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("name", "batch"), CASES)  # one layer a graph; two layers and an uncertainty head
def test_reference_mode_equals_the_released_network(name, mode, batch, golden):
    network = released(golden, name).train(mode == "train")
    at = f"{name}/{batch}/{mode}"
    pull = torch.from_numpy(golden[f"{name}/{batch}/pull"])
    outs = cellwise(network, batch, torch.from_numpy(golden[f"{name}/{batch}/x"]))
    for number, out in enumerate(outs):
        np.testing.assert_allclose(out.detach().numpy(), golden[f"{at}/out{number}"], rtol=0, atol=1e-12)
    sum(((number + 1) * pull * out).sum() for number, out in enumerate(outs)).backward()
    gradients = {key: value for key, value in golden.items() if key.startswith(f"{at}/grad/")}
    largest = max(np.abs(value).max() for value in gradients.values())
    compared = 0
    for key, parameter in network.named_parameters():
        expected = gradients.get(f"{at}/grad/{key}")
        if expected is None:  # it took no part, as the perturbation side in a batch of controls
            assert parameter.grad is None or not parameter.grad.any(), key
            continue
        assert parameter.grad is not None, key
        scale = np.abs(expected).max()
        if scale < 1e-11 * largest:  # zero but for rounding, as of a bias before a batch norm
            scale = largest
        allowed = max(1e-10 * scale, ROUNDING * largest)
        assert np.abs(parameter.grad.numpy() - expected).max() <= allowed, key
        compared += 1
    assert compared > 20
    for key, buffer in network.named_buffers():
        if mode == "train" and "running" in key and f"{at}/buffer/{key}" in golden:
            np.testing.assert_allclose(buffer.numpy(), golden[f"{at}/buffer/{key}"], rtol=1e-12, atol=1e-12)


def test_sums_of_a_batch_equal_those_of_expanded_rows():
    torch.manual_seed(0)
    weight = torch.tensor([3, 1, 2])
    ours, theirs = Perceptron(5, 4, 3), nn.Sequential()
    for layer in ours.network:
        theirs.append(nn.BatchNorm1d(layer.num_features) if isinstance(layer, WeightedBatchNorm) else layer)
    x = torch.randn(3, 5)
    expanded = theirs(x.repeat_interleave(weight, dim=0))
    torch.testing.assert_close(ours(x, weight.double()).repeat_interleave(weight, dim=0), expanded)
    for mine, other in zip(ours.network, theirs, strict=True):
        if isinstance(mine, WeightedBatchNorm):
            torch.testing.assert_close(mine.running_var, other.running_var)
            torch.testing.assert_close(mine.running_mean, other.running_mean)


def small(scope: str = "all", **options) -> GearsNetwork:
    torch.manual_seed(1)
    n_genes, n_nodes = 9, 6
    edges = torch.randint(0, 6, (2, 14))
    graph = Graph(edges[0], edges[1], torch.rand(14), n_genes)
    ontology = Graph(edges[0], edges[1], torch.rand(14), n_nodes)
    return GearsNetwork(normalised(graph), normalised(ontology), n_genes=n_genes, width=4, scope=scope, **options)


def test_members_add_up_in_any_number_and_order():
    network = small().eval()
    sets = Sets.of([[(0, 1.0), (2, 1.0), (4, 1.0)], [(4, 1.0), (0, 1.0), (2, 1.0)], [(0, 1.0), (2, 1.0)], []])
    delta, _ = network(sets, torch.ones(4), torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(delta[0], delta[1])
    assert not torch.allclose(delta[0], delta[2])


def test_the_opposite_sign_of_a_member_takes_its_embedding_away():
    network = small().eval()
    sets = Sets.of([[(1, 1.0), (3, 1.0), (3, -1.0)], [(1, 1.0)], [(3, 1.0)], [(3, -1.0)]])
    delta, _ = network(sets, torch.ones(4), torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(delta[0], delta[1])
    assert not torch.allclose(delta[2], delta[3])


def test_the_order_of_cells_matters_in_the_released_scope_alone():
    cells = torch.tensor([0, 1, 1, 2])
    sets = Sets.of([[], [(1, 1.0)], [(3, 1.0), (4, 1.0)]])
    for scope, matters in (("all", False), ("none", False), ("first_cell", True)):
        deltas = []
        for order in ([0, 1, 2, 3], [3, 0, 1, 2]):
            network = small(scope).train()
            own = cells[order]
            rows = distinct_rows(own, first_apart(own) if scope == "first_cell" else torch.zeros_like(own))
            delta, _ = network(sets.take(rows.set), rows.weight, rows.variant)
            deltas.append(delta[rows.of_cell][torch.argsort(torch.tensor(order))])
        assert torch.allclose(*deltas, atol=1e-12) != matters, scope


def test_embeddings_from_outside_take_the_place_of_our_own():
    for embedded in ("base", "both"):
        network = small(embedded=embedded).train()
        given = torch.randn(9, 2, 4, requires_grad=True)
        sets = Sets.of([[(1, 1.0)], [(2, 1.0)]])
        delta, _ = network(sets, torch.ones(2), torch.tensor([0, 1]), given)
        delta.square().sum().backward()
        assert given.grad is not None
        assert (given.grad.abs().sum(dim=(0, 2)) > 0).all()
        assert hasattr(network, "emb_pos") == (embedded == "base")


def test_rows_stay_in_the_unit_ball():
    network = small()
    with torch.no_grad():
        network.pert_emb.weight.mul_(5)
    network.project_()
    length = network.pert_emb.weight.norm(dim=1)
    assert (length <= 1).all()
    expected = nn.Embedding(1, 4, max_norm=1.0)
    with torch.no_grad():
        expected.weight.copy_(torch.tensor([[3.0, 0.0, 4.0, 0.0]]))
        expected(torch.tensor([0]))
        network.pert_emb.weight[0] = torch.tensor([3.0, 0.0, 4.0, 0.0])
    network.project_()
    torch.testing.assert_close(network.pert_emb.weight[0], expected.weight[0])
