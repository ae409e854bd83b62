"""A small screen for the NB-GLM."""

import functools

import torch

from pertexp.data.screens.batch_layouts import CellBatches
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.embeddings import Planted
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation

ADAMW = functools.partial(torch.optim.AdamW, lr=5e-3, weight_decay=0.0)
SMALL = {
    "n_genes": 40, "n_perturbations": 16, "n_combinations": 4, "cells_per_perturbation": 60, "n_controls": 400,
    "gene_dim": 5, "perturbation_dim": 6, "mean_range": (0.3, 5.0),
}  # fmt: skip


def simulated(batches=None, **fields):
    return SimulatedScreenData(
        name="simulated_screen",
        simulator=SimulatedScreen(**{**SMALL, **fields}),
        split=UnseenPerturbation(folds=4, fold=0, val_fraction=0.2, seed=0),
        gene_embedding=Planted(of="genes"),
        perturbation_embedding=Planted(of="perturbations"),
        batches=batches or CellBatches(),
    )
