"""Similarity of nodes: shared annotations, or correlated values; the k most similar nodes of each."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch

from pertexp.nn.graph import Graph

BLOCK = 1024


def jaccard_graph(annotation: sp.csr_matrix, k: int, threshold: float) -> Graph:
    """Return each node hears itself and the k nodes whose terms overlap most with its own, where Jaccard > threshold.

    |a ∩ b| is one sparse product, and |a ∪ b| = |a| + |b| − |a ∩ b|: no pair without a common term is looked at.

    Parameters
    ----------
    annotation
        `[n, T]` true where a node has a term; a node without any hears itself alone.
    k
        Neighbours a node, itself not counted.
    threshold
        Least similarity, exclusive.
    """
    marks = sp.csr_matrix(annotation, dtype=np.float32)
    terms = np.asarray(marks.sum(axis=1)).ravel()
    transposed = marks.T.tocsr()
    parts = []
    for rows in _blocks(marks.shape[0]):
        shared = (marks[rows] @ transposed).tocoo()
        target, source = shared.row + rows.start, shared.col
        similarity = shared.data / (terms[target] + terms[source] - shared.data)
        parts.append(_strongest(source, target, similarity, k + 1, threshold))
    bare = np.flatnonzero(terms == 0)
    parts.append((bare, bare, np.ones(bare.size, dtype=np.float32)))
    return _graph(parts, marks.shape[0])


def correlation_graph(values: sp.csr_matrix, k: int, threshold: float) -> Graph:
    """Return each column hears itself and the k columns of largest |Pearson r|, where that is > threshold.

    Rows are visited in blocks, so that no dense copy of the whole matrix is made. A column that does not vary hears
    itself alone: it has no correlation.

    Parameters
    ----------
    values
        `[N, n]` expression of cells.
    k, threshold
        As for `jaccard_graph`.
    """
    correlation = _correlation(values)
    n = correlation.shape[0]
    parts = []
    for rows in _blocks(n):
        strength = correlation[rows].abs()
        strength[torch.arange(strength.shape[0]), torch.arange(rows.start, min(rows.stop, n))] = 1.0
        weight, source = strength.topk(min(k + 1, n), dim=1)
        target = torch.arange(rows.start, rows.start + strength.shape[0]).unsqueeze(1).expand_as(source)
        kept = weight > threshold
        parts.append((source[kept].numpy(), target[kept].numpy(), weight[kept].numpy()))
    return _graph(parts, n)


def _correlation(values: sp.csr_matrix) -> torch.Tensor:
    """Return `[n, n]` Pearson's r, 0 for columns that do not vary; second moments of centred blocks in float64."""
    rows = sp.csr_matrix(values)
    mean = np.asarray(rows.mean(axis=0)).ravel()
    second = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for at in _blocks(rows.shape[0]):
        centred = torch.from_numpy((rows[at].toarray() - mean).astype(np.float32))
        second += centred.T @ centred
    spread = second.diagonal().clone()
    scale = torch.where(spread > 1e-9 * rows.shape[0], spread.rsqrt(), torch.zeros_like(spread))
    return (second * scale[:, None] * scale).clamp_(-1, 1)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, n, BLOCK))


def _strongest(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray, k: int, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the k heaviest edges into each target; equal weights in order of their sources."""
    kept = weight > threshold
    source, target, weight = source[kept], target[kept], weight[kept]
    order = np.lexsort((source, -weight, target))
    source, target, weight = source[order], target[order], weight[order]
    first = np.searchsorted(target, target, side="left")
    strongest = np.arange(target.size) - first < k
    return source[strongest], target[strongest], weight[strongest]


def _graph(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], n: int) -> Graph:
    source, target, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Graph(
        torch.from_numpy(source.astype(np.int64)),
        torch.from_numpy(target.astype(np.int64)),
        torch.from_numpy(weight.astype(np.float32)),
        n,
    )
