"""A small screen without embeddings of its own."""

from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.embeddings import TrainingPca
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation

SIMULATOR = SimulatedScreen(
    n_genes=30, n_perturbations=8, n_combinations=0, cells_per_perturbation=20, n_controls=60, n_contexts=2
)
OPTIONS = {
    "split": UnseenPerturbation(folds=4, val_fraction=0.3),
    "gene_embedding": TrainingPca(dimensions=3),
    "perturbation_embedding": TrainingPca(dimensions=3),
}


def data(**changes):
    return SimulatedScreenData(name="simulated", simulator=SIMULATOR, **{**OPTIONS, "batch_size": 64, **changes})
