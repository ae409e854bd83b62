"""Training profiles of a few perturbations in three contexts, one of them without a training unit."""

import numpy as np

from pertexp.data.screens.design import TrainingProfiles
from pertexp.data.screens.embeddings import EmbeddingTable
from pertexp.data.screens.profiles import Units
from pertexp.data.screens.screen import members

NAMES = ("control", "A", "A+B", "A+C", "B", "B+C", "C", "D", "D+E", "E", "F")
CONTEXTS = 3
# A, C and D are measured; B, E and F are not.
GENE_NAMES = ("A", "C", "D", *(f"GENE{number}" for number in range(12)))
GENES = len(GENE_NAMES)


def units(*pairs):
    position = {name: i for i, name in enumerate(NAMES)}
    return Units(np.array([position[name] for name, _ in pairs]), np.array([context for _, context in pairs]))


# Context 2 holds no training unit; F is in no training unit and has no embedding.
TRAIN = units(("A", 0), ("A", 1), ("B", 0), ("C", 1), ("E", 0), ("A+C", 0), ("D", 1))
VALIDATION = units(("D", 0), ("B", 1))
TEST = units(*((name, context) for name in NAMES[1:] for context in range(CONTEXTS)))


def profiles():
    rng = np.random.default_rng(0)
    single = {name: rng.normal(size=4) for name in "ABCDE"} | {"F": np.zeros(4)}
    rows = np.stack([np.sum([single[m] for m in members(name)], axis=0) * np.ones(4) for name in NAMES])
    return TrainingProfiles(
        perturbations=NAMES,
        genes=np.array(GENE_NAMES),
        scale="log1p_of_means",
        units=TRAIN,
        values=rng.uniform(0, 3, (len(TRAIN), GENES)),
        validation_units=VALIDATION,
        validation_values=rng.uniform(0, 3, (len(VALIDATION), GENES)),
        control=rng.uniform(0, 3, (CONTEXTS, GENES)),
        gene_embedding=rng.normal(size=(GENES, 3)),
        perturbation_embedding=rows,
        target_table=EmbeddingTable(np.array(["A"]), np.ones((1, 3))),
    )
