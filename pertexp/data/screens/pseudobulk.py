"""Training rows: single cells, or their sums by perturbation × context × phase × role."""

from typing import Literal

import numpy as np
import scipy.sparse as sp

from pertexp.config.errors import MismatchError
from pertexp.data.screens.batches import Rows
from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import membership

Pseudobulk = Literal["sum", "mean"]


def cell_rows(design: Design) -> Rows:
    """Return one row a cell, with log s."""
    screen = design.screen
    n = screen.n_cells
    return Rows(
        counts=screen.expression,
        perturbation=screen.perturbation,
        context=screen.context,
        phase=np.zeros(n, dtype=np.int64) if screen.phase is None else screen.phase,
        log_size=np.log(design.size_factor).astype(np.float32),
        cells=np.ones(n, dtype=np.float32),
    )


def pseudobulk_rows(design: Design, kind: Pseudobulk) -> tuple[Rows, np.ndarray]:
    """Return one row a group of cells of equal perturbation, context, phase and role, and the role of each row `[R]`.

    `sum`: sums of counts with offset log Σs and n cells, so that a negative binomial with θ_bulk = nθ holds (exactly
    where the cells of a group share one size factor). `mean`: means of counts with the log of the mean size factor and
    weight 1, as the source document has it; it keeps the θ of single cells and so understates what a large group knows.

    Raises
    ------
    MismatchError
        On sums of anything but counts.
    """
    require_summable(design, kind)
    screen = design.screen
    phase = np.zeros(screen.n_cells, dtype=np.int64) if screen.phase is None else screen.phase
    # Cells of two roles, fitted and held-out controls, are two groups.
    key = np.stack([screen.perturbation, screen.context, phase, np.unique(design.role, return_inverse=True)[1]])
    groups, first, group = np.unique(key, axis=1, return_index=True, return_inverse=True)
    indicator = membership(group.ravel(), groups.shape[1])
    n = np.asarray(indicator.sum(axis=1)).ravel()
    share = 1.0 / n if kind == "mean" else np.ones_like(n)
    counts = sp.csr_matrix(sp.diags(share).dot(indicator.dot(screen.expression))).astype(np.float32)
    rows = Rows(
        counts=counts,
        perturbation=groups[0],
        context=groups[1],
        phase=groups[2],
        log_size=np.log(share * indicator.dot(design.size_factor)).astype(np.float32),
        cells=(np.ones_like(n) if kind == "mean" else n).astype(np.float32),
    )
    return rows, design.role[first]


def require_summable(design: Design, kind: Pseudobulk) -> None:
    """Refuse sums of anything but counts (MismatchError)."""
    scale = design.screen.scale
    if kind == "sum" and scale != "counts":
        raise MismatchError(
            f"data/batches=pseudobulk adds up counts, but the data are on the scale {scale}: "
            "type data.batches.combine=mean as well, or data/batches=cells."
        )
