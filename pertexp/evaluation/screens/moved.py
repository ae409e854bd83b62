"""Cells for a predicted mean profile: real control cells, shifted from the control profile to the predicted one.

Differential expression needs cells, and most models predict means. A shift of every cell by the predicted effect would
lift every zero: the slightest effect would then be significant in every gene that most cells do not express. So
counts are thinned where the prediction is below control, and Poisson counts are added where it is above; log values are
scaled, which leaves zeros as they are. Either way the mean of the moved cells is the predicted profile.
"""

import numpy as np
import scipy.sparse as sp


def moved_counts(
    counts: sp.csr_matrix, size_factor: np.ndarray, before: np.ndarray, after: np.ndarray, rng: np.random.Generator
) -> sp.csr_matrix:
    """Control counts `[n, G]` of mean s·before, moved to mean s·after.

    A count survives with probability after/before where that is below 1 (binomial thinning keeps a Poisson or negative
    binomial law); elsewhere Poisson(s·(after − before)) counts are added.

    Parameters
    ----------
    size_factor
        `[n]` s of each cell.
    before, after
        `[G]` expected counts at size factor 1.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(before > 0, np.minimum(after / before, 1.0), 1.0)
    kept = counts.copy()
    kept.data = rng.binomial(kept.data.astype(np.int64), share[kept.indices]).astype(np.float32)
    gain = np.maximum(after - before, 0.0) * size_factor.sum()
    added = _scattered(rng.poisson(gain), size_factor / size_factor.sum(), rng)
    moved: sp.csr_matrix = (kept + added).tocsr()
    moved.eliminate_zeros()
    moved.sort_indices()
    return moved


def _scattered(per_gene: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Draw counts `[n, G]` of given column sums; each count falls to a cell by its share `[n]` (Poisson splitting)."""
    gene = np.repeat(np.arange(per_gene.size), per_gene)
    cell = rng.choice(share.size, size=gene.size, p=share)
    ones = np.ones(gene.size, dtype=np.float32)
    return sp.coo_matrix((ones, (cell, gene)), shape=(share.size, per_gene.size)).tocsr()


def moved_logs(values: sp.csr_matrix, before: np.ndarray, after: np.ndarray) -> sp.csr_matrix:
    """Control log values `[n, G]` of mean `before [G]`, scaled gene by gene to mean `after [G]`.

    Genes that no control cell expresses, and that are predicted to be, get the predicted mean in every cell. A negative
    prediction is no log of counts and counts as zero.
    """
    after = np.maximum(after, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(before > 0, after / before, 0.0)
    scaled = values.copy()
    scaled.data = (scaled.data * factor[scaled.indices]).astype(np.float32)
    risen = np.where(before > 0, 0.0, after)
    if risen.any():
        scaled = (scaled + sp.csr_matrix(np.tile(risen.astype(np.float32), (values.shape[0], 1)))).tocsr()
    scaled.eliminate_zeros()
    scaled.sort_indices()
    return scaled
