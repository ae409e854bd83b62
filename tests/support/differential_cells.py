"""Cells of three groups and controls, for tests of differential expression."""

import numpy as np
import scipy.sparse as sp

from pertexp.metrics.cells import Cells


def screen(sizes=(30, 25, 40), controls=50, genes=20, seed=0):
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(controls, -1)])
    rate = np.exp(rng.normal(size=(len(sizes) + 1, genes)))
    counts = rng.poisson(rate[group]).astype(np.float32)
    counts[:, -1] = 0  # a gene that nobody expresses
    order = rng.permutation(group.size)
    return Cells(sp.csr_matrix(counts[order]), group[order], len(sizes), "counts", np.ones(group.size))
