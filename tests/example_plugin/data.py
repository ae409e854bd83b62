"""A data class: a screen that is made up; one that reads a file would read it in `read`."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.screen import CONTROL, Screen


@dataclass(kw_only=True, eq=False)
class PoissonScreen(ScreenData):
    """Poisson counts; every perturbation moves the genes of one of two programs, up or down."""

    n_genes: int = 20
    n_perturbations: int = 12
    n_cells: int = 30
    seed: int = 0

    def read(self) -> Screen:
        """Draw the cells: `n_cells` of every perturbation, twice as many controls."""
        rng = np.random.default_rng(self.seed)
        programs = rng.normal(size=(2, self.n_genes))
        targets = rng.normal(size=(self.n_perturbations, 2))
        log_fold = np.concatenate([np.zeros((1, self.n_genes)), 0.3 * targets @ programs])
        perturbation = np.repeat(np.arange(self.n_perturbations + 1), self.n_cells)
        perturbation = np.concatenate([np.zeros(self.n_cells, dtype=np.int64), perturbation])
        counts = rng.poisson(5.0 * np.exp(log_fold[perturbation])).astype(np.float32)
        genes = [f"gene{number:02d}" for number in range(self.n_genes)]
        return Screen(
            expression=sp.csr_matrix(counts),
            scale="counts",
            genes=np.array(genes),
            perturbations=(CONTROL, *genes[: self.n_perturbations]),
            perturbation=perturbation,
            contexts=("culture",),
            context=np.zeros_like(perturbation),
            depth=counts.sum(axis=1),
        )
