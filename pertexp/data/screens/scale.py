"""The scale of expression: verified against what the user declares, never guessed; converted only on request."""

import numpy as np
import scipy.sparse as sp

from pertexp.config.errors import DataError
from pertexp.data.screens.screen import Scale

LARGEST_LOG1P = 25.0  # log1p of 7e10 counts: no depth-normalised library reaches it
INTEGER_TOLERANCE = 1e-3
LARGEST_FACTOR = 50


def verify_scale(values: np.ndarray, scale: Scale, where: str) -> None:
    """Refuse stored values that cannot be on the declared scale.

    Parameters
    ----------
    values
        The stored (non-zero) entries, any shape.
    scale
        What the configuration declares.
    where
        Name of the matrix, for the error.

    Raises
    ------
    DataError
        On NaN or infinite entries, negative counts or logs, fractional counts, or logs too large to be logs.
    """
    bad = int(np.size(values) - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise DataError(
            f"{where} holds {bad} NaN or infinite values; every entry must be a number: "
            "remove those cells or genes, or name another matrix with data.layer=..."
        )
    if scale == "log2fc" or not np.size(values):
        return
    if values.min() < 0:
        raise DataError(
            f"{where} holds negative values (smallest {values.min():.4g}) but data.scale={scale} cannot: "
            "name the raw matrix with data.layer=..., or type data.scale=log2fc for fold changes."
        )
    if scale == "counts" and np.any(values != np.rint(values)):
        fraction = values[values != np.rint(values)][0]
        raise DataError(
            f"{where} holds fractions (for example {fraction:.6g}) but data.scale=counts means integer UMI counts: "
            "name the raw matrix with data.layer=..., or type data.scale=log1p."
        )
    if scale == "log1p":
        _verify_log1p(values, where)


def _verify_log1p(values: np.ndarray, where: str) -> None:
    if values.max() > LARGEST_LOG1P:
        raise DataError(
            f"{where} holds values up to {values.max():.4g}, too large for data.scale=log1p "
            f"(expected below {LARGEST_LOG1P:g}): type data.scale=counts if these are counts."
        )
    if np.all(values == np.rint(values)):
        raise DataError(
            f"{where} holds integers only, as counts do, but data.scale=log1p was declared: type data.scale=counts."
        )


def recover_counts(expression: sp.csr_matrix) -> tuple[sp.csr_matrix, np.ndarray]:
    """Integer counts behind the log1p of depth-normalised counts.

    In each cell the values expm1(x) are counts times one unknown depth factor. Divided by the smallest of them they
    are rationals; the smallest integer k ≤ 50 that brings all within 1e-3 of integers gives the counts. A factor
    common to all counts of a cell cannot be seen and is divided out.

    Parameters
    ----------
    expression
        `[N, G]` CSR, log1p of depth-normalised counts.

    Returns
    -------
    counts
        `[N, G]` float32 CSR; rows without a solution are left empty.
    failed
        Indices of the rows for which no such k exists.
    """
    natural = np.expm1(expression.data.astype(np.float64))
    lengths = np.diff(expression.indptr)
    row = np.repeat(np.arange(expression.shape[0]), lengths)
    ratio = natural / _row_minimum(natural, expression.indptr)[row]
    factor = np.zeros(expression.shape[0], dtype=np.int64)
    for k in range(1, LARGEST_FACTOR + 1):
        off = np.abs(ratio * k - np.rint(ratio * k)) >= INTEGER_TOLERANCE
        misses = np.bincount(row[off], minlength=factor.size)
        factor[(factor == 0) & (misses == 0)] = k
        if factor.all():
            break
    failed = np.flatnonzero(factor == 0)
    counts = sp.csr_matrix(
        (
            np.rint(ratio * factor[row]).astype(np.float32),
            expression.indices.copy(),
            expression.indptr.copy(),
        ),
        shape=expression.shape,
    )
    counts.eliminate_zeros()
    return counts, failed


def _row_minimum(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Smallest stored value of each row `[N]`; 1 for an empty row."""
    smallest = np.ones(indptr.size - 1)
    filled = np.flatnonzero(np.diff(indptr))
    if filled.size:
        smallest[filled] = np.minimum.reduceat(values, indptr[filled])
    return smallest


def log_normalise(counts: sp.csr_matrix, size_factor: np.ndarray) -> sp.csr_matrix:
    """log1p(y / s) as float32 CSR: counts at the median depth, one size factor `[N]` a cell."""
    scaled: sp.csr_matrix = sp.diags(1.0 / size_factor).dot(counts).tocsr()
    scaled.data = np.log1p(scaled.data).astype(np.float32)
    return scaled
