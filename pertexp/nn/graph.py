"""Graphs as one sparse matrix: simplified graph convolution without a graph library."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Graph:
    """Weighted directed edges among n nodes.

    Attributes
    ----------
    source, target
        `[E]` int64 node indices; a node hears what comes from `source` to it as `target`.
    weight
        `[E]` similarities ≥ 0.
    n_nodes
        Number of nodes.
    """

    source: Tensor
    target: Tensor
    weight: Tensor
    n_nodes: int


def normalised(graph: Graph) -> Graph:
    """D^-1/2 (A ∪ I) D^-1/2 with D the incoming weight of a node (Kipf & Welling 2017, as in SGConv).

    A node gets a self-loop of weight 1 where it has none. Edges come back sorted by target, then source.
    """
    looped = graph.source[graph.source == graph.target]
    bare = torch.ones(graph.n_nodes, dtype=torch.bool)
    bare[looped] = False
    loops = bare.nonzero().flatten()
    source, target = torch.cat([graph.source, loops]), torch.cat([graph.target, loops])
    weight = torch.cat([graph.weight, graph.weight.new_ones(loops.numel())])
    order = torch.argsort(target * graph.n_nodes + source)
    source, target, weight = source[order], target[order], weight[order]
    degree = torch.zeros(graph.n_nodes, dtype=weight.dtype).index_add(0, target, weight)
    scale = torch.where(degree > 0, degree.rsqrt(), torch.zeros_like(degree))
    return Graph(source, target, scale[source] * weight * scale[target], graph.n_nodes)


class Propagation(nn.Module):
    """Â X for a fixed graph, whose edges (see `normalised`) are sorted by target.

    They are the buffers `source`, `target` and `weight`, so that a checkpoint holds the graph.
    """

    source: Tensor
    target: Tensor
    weight: Tensor

    def __init__(self, edges: Graph) -> None:
        super().__init__()
        self.n_nodes = edges.n_nodes
        for name in ("source", "target", "weight"):
            self.register_buffer(name, getattr(edges, name).clone())
        self._matrices: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._starts: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return `[n, h]` → `[n, h]`."""
        with torch.autocast(x.device.type, enabled=False):  # sparse products know no half precision
            x = x.to(self.weight.dtype)
            forward, backward = self._as_matrices(x)
            product: Tensor = _SparseProduct.apply(x, forward, backward)  # type: ignore[no-untyped-call]
            return product

    def rows(self, x: Tensor, nodes: Tensor) -> Tensor:
        """Return some rows `[m, h]` of Â X, at the cost of their edges alone."""
        starts = self._edge_starts()
        first, length = starts[nodes], starts[nodes + 1] - starts[nodes]
        owner = torch.repeat_interleave(torch.arange(nodes.numel(), device=x.device), length)
        within = torch.arange(owner.numel(), device=x.device) - (length.cumsum(0) - length)[owner]
        edge = first[owner] + within
        messages = self.weight[edge].unsqueeze(1) * x[self.source[edge]]
        return x.new_zeros(nodes.numel(), x.shape[1]).index_add(0, owner, messages)

    def _edge_starts(self) -> Tensor:
        """Return `[n + 1]` where the edges of each target begin."""
        if self._starts is None or self._starts.device != self.target.device:
            ends = torch.bincount(self.target, minlength=self.n_nodes).cumsum(0)
            self._starts = torch.cat([ends.new_zeros(1), ends])
        return self._starts

    def _as_matrices(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Â and Âᵀ as CSR, made once for a device and a precision."""
        key = (x.device, x.dtype)
        if key not in self._matrices:
            weight = self.weight.to(x.dtype)
            by_source = torch.argsort(self.source * self.n_nodes + self.target)
            self._matrices[key] = (
                _csr(self.target, self.source, weight, self.n_nodes),
                _csr(self.source[by_source], self.target[by_source], weight[by_source], self.n_nodes),
            )
        return self._matrices[key]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        self._matrices.clear()
        self._starts = None
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _csr(row: Tensor, column: Tensor, value: Tensor, n: int) -> Tensor:
    ends = torch.bincount(row, minlength=n).cumsum(0)
    with warnings.catch_warnings():  # the layout is called beta, once a process; products with dense are all we ask
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        starts = torch.cat([ends.new_zeros(1), ends])
        return torch.sparse_csr_tensor(starts, column, value, (n, n), check_invariants=False)


class _SparseProduct(torch.autograd.Function):
    """A fixed sparse matrix times a dense one; its transpose is at hand for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed @ grads[0], None, None


class GraphConvolution(nn.Module):
    """Simplified graph convolution of one hop (Wu et al. 2019): Linear(Â X)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin = nn.Linear(width, width)

    def forward(self, x: Tensor, graph: Propagation | None, nodes: Tensor | None = None) -> Tensor:
        """Map `[n, h]` → `[n, h]`, or to the rows of `nodes` `[m, h]`; without a graph each node sees itself alone."""
        if graph is not None:
            x = graph(x) if nodes is None else graph.rows(x, nodes)
        out: Tensor = self.lin(x)
        return out


def convolve(x: Tensor, layers: nn.ModuleList, graph: Propagation, nodes: Tensor | None = None) -> Tensor:
    """Layers of graph convolution with ReLU between; of the last only the rows of `nodes`, where given."""
    for depth, layer in enumerate(layers):
        last = depth == len(layers) - 1
        x = layer(x, graph, nodes if last else None)
        if not last:
            x = x.relu()
    return x if nodes is None or len(layers) else x[nodes]


@torch.no_grad()
def project_rows_(table: Tensor, radius: float = 1.0) -> None:
    """Shorten, in place, the rows of `table [n, h]` that are longer than `radius`, as `nn.Embedding(max_norm)` does."""
    length = table.norm(dim=1, keepdim=True)
    table.mul_(torch.where(length > radius, radius / (length + 1e-7), torch.ones_like(length)))
