"""Cells a second from a sparse matrix to dense batches: pertexp's gather and other ways, one run, the same rows.

Run as `python benchmarks/gather.py [--repeats 3]`. One thread. Each way yields float32 torch tensors.
pertexp's gather is scipy's row selection and nothing around it: the ratio to X[rows].toarray() says so.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData

from pertexp.data.screens.batches import BatchLoader, Rows, gather

CELLS, GENES, DENSITY = 20_000, 5_000, 0.1
BATCH_SIZES = (256, 2048)
SLOW_CELLS = 4_096  # enough to time a cell at a time

Epoch = Callable[[], Iterator[torch.Tensor]]
Way = Callable[[sp.csr_matrix, np.ndarray, int], Epoch]


def planted(seed: int = 0) -> sp.csr_matrix:
    """Draw a matrix whose cells have DENSITY · GENES entries on average, some three times as many as others."""
    rng = np.random.default_rng(seed)
    stored = rng.integers(round(DENSITY * GENES / 2), round(DENSITY * GENES * 3 / 2), CELLS)
    columns = np.concatenate([np.sort(rng.choice(GENES, n, replace=False)) for n in stored]).astype(np.int32)
    counts = rng.integers(1, 20, columns.size).astype(np.float32)
    return sp.csr_matrix((counts, columns, np.append(0, np.cumsum(stored))), shape=(CELLS, GENES))


def batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    return np.split(order, range(size, order.size, size))


def pertexp_gather(matrix: sp.csr_matrix, order: np.ndarray, size: int) -> Epoch:
    return lambda: (torch.from_numpy(gather(matrix, rows)) for rows in batches(order, size))


def pertexp_loader(matrix: sp.csr_matrix, order: np.ndarray, size: int) -> Epoch:
    codes, ones = np.zeros(CELLS, dtype=np.int64), np.ones(CELLS, dtype=np.float32)
    loader = BatchLoader(Rows(matrix, codes, codes, codes, ones, ones), order, size, shuffle=True)
    return lambda: (batch["counts"] for batch in loader)


def row_slices(matrix: sp.csr_matrix, order: np.ndarray, size: int) -> Epoch:
    return lambda: (torch.from_numpy(matrix[rows].toarray()) for rows in batches(order, size))


def one_by_one(matrix: sp.csr_matrix, order: np.ndarray, size: int) -> Epoch:
    return lambda: (
        torch.stack([torch.from_numpy(matrix[row].toarray()[0]) for row in rows]) for rows in batches(order, size)
    )


def anndata_loader(matrix: sp.csr_matrix, order: np.ndarray, size: int) -> Epoch:
    """AnnData's own loader over the same cells; the time to build the AnnData does not count."""
    from anndata.experimental import AnnLoader

    index = [f"cell{number}" for number in range(order.size)]
    loader = AnnLoader(AnnData(matrix[order], obs=pd.DataFrame(index=index)), batch_size=size, shuffle=True)
    return lambda: (batch.X for batch in loader)


def rate(epoch: Epoch, n_cells: int, repeats: int) -> float:
    """Cells a second, the best of several epochs."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        seen = sum(len(batch) for batch in epoch())
        best = min(best, time.perf_counter() - start)
        if seen != n_cells:
            raise AssertionError(f"{seen} cells came out of {n_cells}")
    return n_cells / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    matrix, order = planted(), np.random.default_rng(1).permutation(CELLS)
    print(f"{CELLS} cells × {GENES} genes, {matrix.nnz / CELLS / GENES:.1%} stored, one thread")
    ways: dict[str, tuple[Way, int]] = {
        "pertexp gather": (pertexp_gather, CELLS),
        "pertexp loader": (pertexp_loader, CELLS),
        "X[rows].toarray()": (row_slices, CELLS),
        "one by one + stack": (one_by_one, SLOW_CELLS),
        "anndata AnnLoader": (anndata_loader, CELLS),
    }
    for size in BATCH_SIZES:
        reference = 0.0
        for name, (way, cells) in ways.items():
            found = rate(way(matrix, order[:cells], size), cells, repeats)
            reference = reference or found
            print(f"batch {size:5d}  {name:20s} {found:10,.0f} cells/s   pertexp gather is {reference / found:6.1f} x")


if __name__ == "__main__":
    main()
