"""The screen: cells × genes under perturbation, in memory, the same for every model family."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

Scale = Literal["counts", "log1p", "log2fc"]

CONTROL = "control"
JOIN = "+"
PHASES = ("G1", "S", "G2M")


def members(perturbation: str) -> tuple[str, ...]:
    """Targets of a canonical perturbation name: `A+B` → `(A, B)`, `control` → `()`."""
    return () if perturbation == CONTROL else tuple(perturbation.split(JOIN))


@dataclass(frozen=True)
class Screen:
    """Cells × genes with their perturbations.

    Attributes
    ----------
    expression
        `[N, G]` float32 CSR, on `scale`.
    scale
        `counts` (UMI), `log1p` (log of depth-normalised counts plus one), or `log2fc`.
    genes
        `[G]` gene names, unique.
    perturbations
        Canonical names; entry 0 is `control`. Members are sorted and joined by `+`.
    perturbation
        `[N]` index into `perturbations`.
    contexts, context
        Names, and `[N]` index: cell line, cell type, replicate, ...
    depth
        `[N]` library depth L, in counts, or None where the scale holds no counts.
    phase
        `[N]` cell-cycle phase, 0 = G1, 1 = S, 2 = G2M, or None.
    truth
        What a simulator planted, or None.
    provenance
        Where the numbers come from and what was left out: plain values, written into the run.
    """

    expression: sp.csr_matrix
    scale: Scale
    genes: np.ndarray
    perturbations: tuple[str, ...]
    perturbation: np.ndarray
    contexts: tuple[str, ...]
    context: np.ndarray
    depth: np.ndarray | None = None
    phase: np.ndarray | None = None
    truth: Any = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        """Number of cells N."""
        return int(self.expression.shape[0])

    @property
    def n_genes(self) -> int:
        """Number of genes G."""
        return int(self.expression.shape[1])

    def take_cells(self, keep: np.ndarray) -> "Screen":
        """Return some of the cells (a mask or indices); names that no cell carries are dropped, control stays first."""
        perturbation, context = self.perturbation[keep], self.context[keep]
        used = np.union1d([0], perturbation)
        lived_in = np.unique(context)
        return replace(
            self,
            expression=self.expression[keep].tocsr(),
            perturbations=tuple(self.perturbations[i] for i in used),
            perturbation=np.searchsorted(used, perturbation),
            contexts=tuple(self.contexts[i] for i in lived_in),
            context=np.searchsorted(lived_in, context),
            depth=None if self.depth is None else self.depth[keep],
            phase=None if self.phase is None else self.phase[keep],
            truth=None if self.truth is None else self.truth.take(keep, used, lived_in),
        )

    def take_genes(self, keep: np.ndarray) -> "Screen":
        """Return the same cells on some of the genes; depths stay those of the whole transcriptome."""
        return replace(
            self,
            expression=self.expression[:, keep].tocsr(),
            genes=self.genes[keep],
            truth=None if self.truth is None else self.truth.take_genes(keep),
        )
