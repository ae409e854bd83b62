"""A small GEARS and its screen."""

import functools

import torch

from pertexp.data.screens.annotations import PlantedSets
from pertexp.data.screens.batch_layouts import MatchedControlBatches
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.embeddings import Planted
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation
from pertexp.losses.gears import GearsLoss
from pertexp.models.gears import GEARS

SIMULATOR = SimulatedScreen(
    n_genes=40, n_perturbations=20, n_combinations=8, cells_per_perturbation=24, n_controls=90, n_contexts=2
)
ADAM = functools.partial(torch.optim.Adam, lr=1e-3, weight_decay=5e-4)


def screen_data(**options) -> SimulatedScreenData:
    chosen = {
        "name": "simulated_screen",
        "simulator": SIMULATOR,
        "split": UnseenPerturbation(),
        "gene_embedding": Planted(of="genes"),
        "perturbation_embedding": Planted(of="perturbations"),
        "annotation": PlantedSets(),
        "normalize": True,
        "batches": MatchedControlBatches(drop_last=True),
        "batch_size": 32,
    }
    return SimulatedScreenData(**{**chosen, **options})


def gears(data=None, loss=None, **options) -> GEARS:
    torch.manual_seed(0)
    small = {"hidden_size": 8, "coexpress": {"threshold": 0.05, "k": 5}}
    return GEARS.from_data(data or screen_data(), loss or GearsLoss(), ADAM, **{**small, **options})
