"""Graphs, their propagation, and who is whose neighbour, each against dense algebra."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from pertexp.nn.graph import Graph, GraphConvolution, Propagation, convolve, normalised
from pertexp.nn.similarity import correlation_graph, jaccard_graph


def random_graph(n: int = 8, edges: int = 20) -> Graph:
    torch.manual_seed(3)
    pairs = torch.unique(torch.randint(0, n - 1, (2, edges)), dim=1)  # the last node has no edge
    return Graph(pairs[0], pairs[1], torch.rand(pairs.shape[1], dtype=torch.float64), n)


def dense(graph: Graph) -> torch.Tensor:
    """Row: target."""
    matrix = torch.zeros(graph.n_nodes, graph.n_nodes, dtype=graph.weight.dtype)
    matrix[graph.target, graph.source] = graph.weight
    return matrix


def test_propagation_is_the_normalised_adjacency():
    graph = random_graph()
    adjacency = dense(graph)
    bare = adjacency.diagonal() == 0
    adjacency += torch.diag(bare.double())
    scale = adjacency.sum(dim=1).rsqrt()
    expected = scale[:, None] * adjacency * scale
    propagation = Propagation(normalised(graph))
    x = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    out = propagation(x)
    torch.testing.assert_close(out, expected @ x)
    pull = torch.randn(8, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((out * pull).sum(), x)
    torch.testing.assert_close(gradient, expected.T @ pull)
    some = torch.tensor([7, 2, 2])
    torch.testing.assert_close(propagation.rows(x, some), (expected @ x)[some])


def test_a_loaded_graph_takes_the_place_of_the_old_one():
    first, second = random_graph(), random_graph()
    second = Graph(second.target, second.source, second.weight, second.n_nodes)
    ours, theirs = Propagation(normalised(first)), Propagation(normalised(second))
    x = torch.randn(8, 2, dtype=torch.float64)
    ours(x)
    state = theirs.state_dict()
    if state["source"].shape == ours.source.shape:
        ours.load_state_dict(state)
        torch.testing.assert_close(ours(x), theirs(x))
    rebuilt = Propagation(Graph(state["source"], state["target"], state["weight"], 8))
    torch.testing.assert_close(rebuilt(x), theirs(x))


def test_layers_on_some_nodes_are_rows_of_those_on_all():
    graph = Propagation(normalised(random_graph()))
    for depth in (0, 1, 3):
        layers = torch.nn.ModuleList(GraphConvolution(4).double() for _ in range(depth))
        x, nodes = torch.randn(8, 4, dtype=torch.float64), torch.tensor([5, 0])
        torch.testing.assert_close(convolve(x, layers, graph, nodes), convolve(x, layers, graph)[nodes])


def neighbours(graph: Graph) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = {node: {} for node in range(graph.n_nodes)}
    for source, target, weight in zip(graph.source, graph.target, graph.weight, strict=True):
        found[int(target)][int(source)] = float(weight)
    return found


def test_jaccard_by_sets(monkeypatch):
    monkeypatch.setattr("pertexp.nn.similarity.BLOCK", 7)
    rng = np.random.default_rng(0)
    marks = rng.random((25, 30)) < 0.2
    marks[4] = False
    graph = neighbours(jaccard_graph(sp.csr_matrix(marks), k=3, threshold=0.1))
    terms = [set(np.flatnonzero(row)) for row in marks]
    for node, own in enumerate(terms):
        if not own:
            assert graph[node] == {node: 1.0}
            continue
        alike = {m: len(own & other) / len(own | other) for m, other in enumerate(terms) if other}
        alike = {m: value for m, value in alike.items() if value > 0.1}
        best = sorted(alike.values(), reverse=True)[:4]
        np.testing.assert_allclose(sorted(graph[node].values(), reverse=True), best, rtol=1e-6)
        for m, value in graph[node].items():
            np.testing.assert_allclose(value, alike[m], rtol=1e-6)
        assert node in graph[node]


def test_correlation_by_numpy(monkeypatch):
    monkeypatch.setattr("pertexp.nn.similarity.BLOCK", 16)
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(90, 3))
    values = np.maximum(shared[:, rng.integers(3, size=20)] + 0.7 * rng.normal(size=(90, 20)), 0)
    values[:, 5] = 2.0  # does not vary
    graph = neighbours(correlation_graph(sp.csr_matrix(values), k=4, threshold=0.3))
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(np.abs(np.corrcoef(values.T)))
    for gene in range(20):
        row = expected[gene].copy()
        row[gene] = 1.0
        best = [m for m in np.argsort(-row)[:5] if row[m] > 0.3]
        assert sorted(graph[gene]) == sorted(best)
        np.testing.assert_allclose([graph[gene][m] for m in best], row[best], rtol=1e-4)
    assert graph[5] == {5: 1.0}


@pytest.mark.parametrize("k", [0, 100])
def test_any_number_of_neighbours(k):
    rng = np.random.default_rng(2)
    values = sp.csr_matrix(rng.random((30, 6)))
    sizes = [len(own) for own in neighbours(correlation_graph(values, k=k, threshold=0.0)).values()]
    assert sizes == [min(k + 1, 6)] * 6
