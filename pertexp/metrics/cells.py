"""Cells of the units of one pool, with the control cells that they are compared with."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class Cells:
    """Real or predicted cells of U units, and control cells of their context; N cells, G genes.

    Attributes
    ----------
    expression
        `[N, G]` CSR, counts or log1p values.
    group
        `[N]` row of the cell's unit, or -1 for a control cell.
    n_units
        Number of units U.
    scale
        `counts`, or `log1p` of depth-normalised counts.
    size_factor
        `[N]` size factors of counts; 1 on the log scale.
    """

    expression: sp.csr_matrix
    group: np.ndarray
    n_units: int
    scale: Literal["counts", "log1p"]
    size_factor: np.ndarray

    @cached_property
    def indicator(self) -> sp.csr_matrix:
        """`[U + 1, N]` cells of each unit; the last row holds the control cells."""
        row = np.where(self.group < 0, self.n_units, self.group)
        n = row.size
        return sp.csr_matrix((np.ones(n), (row, np.arange(n))), shape=(self.n_units + 1, n))

    @cached_property
    def sizes(self) -> np.ndarray:
        """`[U + 1]` numbers of cells, those of control last."""
        return np.bincount(np.where(self.group < 0, self.n_units, self.group), minlength=self.n_units + 1)

    def of(self, unit: int) -> np.ndarray:
        """Return row indices of the cells of a unit, or of control (-1)."""
        return np.flatnonzero(self.group == unit)

    def sums(self, values: sp.csr_matrix) -> np.ndarray:
        """Return `[U + 1, G]` sums of a matrix over the cells of each unit, those of control last."""
        return np.asarray(self.indicator.dot(values.astype(np.float64)).todense())

    def means(self, values: sp.csr_matrix) -> np.ndarray:
        """Return `[U + 1, G]` means over the cells of each unit, those of control last; 0 where a unit has none."""
        means: np.ndarray = self.sums(values) / np.maximum(self.sizes, 1)[:, None]
        return means


def rescaled(expression: sp.csr_matrix, factor: np.ndarray, *, log: bool) -> sp.csr_matrix:
    """Return every row times its factor `[N]`, as float32 CSR; then log1p where asked for."""
    data = expression.data.astype(np.float32)
    data *= np.repeat(factor.astype(np.float32), np.diff(expression.indptr))
    if log:
        np.log1p(data, out=data)
    return sp.csr_matrix((data, expression.indices, expression.indptr), shape=expression.shape)
