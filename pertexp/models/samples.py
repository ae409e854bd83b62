"""Cells drawn from a fitted model, which a run writes where `model.sampling.cells_per_unit` is set."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import Units
from pertexp.models.protocols import DrawsCells
from pertexp.runs.record import whole

if TYPE_CHECKING:
    from anndata import AnnData

Draw = Callable[[Units, np.ndarray, int], np.ndarray]


def write_samples(model: object, design: Design, seed: int, folder: Path) -> None:
    """Write samples.h5ad, whole or not at all, where the model draws cells and was asked to."""
    cells = model.samples(design, seed) if isinstance(model, DrawsCells) else None
    if cells is None:
        return
    with whole(folder / "samples.h5ad") as partial:
        cells.write_h5ad(partial)


def sampled_cells(draw: Draw, design: Design, per_unit: int, name: str, seed: int) -> "AnnData":
    """Return AnnData of `per_unit` cells for each test unit, counts in X.

    Size factors are drawn, with replacement, from the fitted control cells of the unit's context: known without the
    test cells, and of the spread that real cells have.

    Parameters
    ----------
    draw
        (units, size factors, seed) → counts `[U, G]`, one cell a unit.
    name
        Of the model, for `uns`.
    """
    import anndata

    screen, units = design.screen, design.units("test")
    rng = np.random.default_rng(seed)
    blocks, sizes = [], []
    for row in range(len(units)):
        own = (design.role == "control") & (screen.context == units.context[row])
        sizes.append(rng.choice(design.size_factor[own], per_unit))
        cells = units.take(np.full(per_unit, row))
        blocks.append(sp.csr_matrix(draw(cells, sizes[-1], int(rng.integers(2**62)))))
    unit = np.repeat(np.arange(len(units)), per_unit)
    return anndata.AnnData(
        X=sp.vstack(blocks, format="csr"),
        obs=_labels(design, units.take(unit), np.concatenate(sizes)),
        var=pd.DataFrame(index=pd.Index(screen.genes, dtype=str)),
        uns={"scale": "counts", "model": name},
    )


def _labels(design: Design, units: Units, size_factor: np.ndarray) -> pd.DataFrame:
    screen = design.screen
    labels = pd.DataFrame({
        "perturbation": pd.Categorical([screen.perturbations[p] for p in units.perturbation]),
        "context": pd.Categorical([screen.contexts[c] for c in units.context]),
        "size_factor": size_factor,
    })  # fmt: skip
    return labels.set_index(pd.Index([f"sample{i}" for i in range(len(units))]))
