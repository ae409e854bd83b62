"""A simulated screen as an .h5ad file."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from pertexp.data.screens.simulator import SimulatedScreen


def screen_file(path: Path, genes: slice = slice(None), seed: int = 0, control: str = "control") -> anndata.AnnData:
    """The simulated screen of TINY as another lab would hand it over: an .h5ad of counts."""
    simulated = SimulatedScreen(
        n_genes=30, n_perturbations=15, n_combinations=3, cells_per_perturbation=20, n_controls=60, seed=seed
    )()
    labels = np.array(simulated.perturbations)[simulated.perturbation]
    obs = pd.DataFrame({"perturbation": pd.Categorical(np.where(labels == "control", control, labels))})
    obs.index = obs.index.astype(str)
    adata = anndata.AnnData(simulated.expression, obs=obs, var=pd.DataFrame(index=simulated.genes))
    adata = adata[:, genes].copy()
    adata.write_h5ad(path)
    return adata
