"""What a simulator planted, the NB-GLM finds; and without information there is nothing that it finds."""

import functools
from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.embeddings import EmbeddingTable, Planted
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation
from pertexp.evaluation.bootstrap import paired_difference
from pertexp.evaluation.screens.evaluation import evaluation_frame
from pertexp.evaluation.screens.families import Core
from pertexp.evaluation.screens.measuring import measure
from pertexp.evaluation.screens.scoring import Scores
from pertexp.losses.counts import nb
from pertexp.models.nbglm import NBGLM
from pertexp.models.nbglm.recovery import cosine

pytestmark = pytest.mark.medium

ENOUGH = SimulatedScreen(
    n_genes=120, n_perturbations=60, n_combinations=0, cells_per_perturbation=150, n_controls=2000,
    gene_dim=16, perturbation_dim=16, mean_range=(0.2, 4.0),
)  # fmt: skip


class PermutedRows(Planted):
    """The planted embedding with its rows dealt to other targets."""

    def table(self, screen, training_effects):
        table = super().table(screen, training_effects)
        order = np.random.default_rng(0).permutation(len(table.names))
        return EmbeddingTable(table.names, table.vectors[order])


def trained(simulator, targets=Planted, screen=None):
    """Model and data after a few epochs of the real trainer, from the closed-form start."""
    data = SimulatedScreenData(
        name="simulated_screen",
        simulator=simulator,
        split=UnseenPerturbation(folds=5, fold=0, val_fraction=0.15, seed=0),
        gene_embedding=Planted(of="genes"),
        perturbation_embedding=targets(of="perturbations"),
    )
    if screen is not None:
        data.read = lambda: screen
    torch.manual_seed(0)
    model = NBGLM.from_data(data, nb, functools.partial(torch.optim.AdamW, lr=5e-3, weight_decay=0.0))
    before = deviance(model, data)
    trainer = lightning.Trainer(
        max_epochs=12, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    return model, data, before


def deviance(model, data):
    """Half the training deviance per cell and gene."""
    batches = list(data._loader(("train", "control"), shuffle=False))
    with torch.no_grad():
        weighted = [(float(model._data_loss(batch)), len(batch["cells"])) for batch in batches]
    return sum(loss * n for loss, n in weighted) / sum(n for _, n in weighted)


@pytest.fixture(scope="module")
def found():
    return trained(ENOUGH)


def test_the_planted_kernel_is_found_and_training_improves_on_the_closed_form(found):
    model, data, before = found
    recovery = model.recovery(data.design)
    assert recovery["cosine of kernels"] >= 0.98
    assert recovery["cosine of held-out effects"] >= 0.95
    assert 0.9 < recovery["median ratio of dispersions"] < 1.1
    assert deviance(model, data) < before


@pytest.mark.slow
def test_labels_that_tell_nothing_give_no_kernel():
    screen = ENOUGH()
    perturbed = np.flatnonzero(screen.perturbation > 0)
    labels = screen.perturbation.copy()
    labels[perturbed] = np.random.default_rng(0).permutation(labels[perturbed])
    model, data, _ = trained(ENOUGH, screen=replace(screen, perturbation=labels))
    assert abs(model.recovery(data.design)["cosine of kernels"]) < 0.2
    kernel = model.network.log_alpha.exp() * model.network.kernel.detach()
    assert float(kernel.norm()) < 0.2 * np.linalg.norm(ENOUGH.alpha * screen.truth.kernel)


@pytest.mark.slow
def test_the_embeddings_matter(found):
    """With the rows of P dealt to other targets the score on held-out perturbations falls."""
    model, data, _ = found
    blind, other, _ = trained(ENOUGH, targets=PermutedRows)
    units = data.design.units("test")
    assert np.array_equal(other.design.units("test").perturbation, units.perturbation)
    frame = evaluation_frame(data.design, {"true": model.predict(units), "permuted": blind.predict(units)}, 0)
    scores = Scores.of(measure(frame, None, {"core": Core()}), n_resamples=10)
    sides = [scores.rows(name, "pearson_delta") for name in ("true", "permuted")]
    values = [side["value"].to_numpy(dtype=float) for side in sides]
    gap = paired_difference(*values, sides[0]["perturbation"].to_numpy(dtype=str))
    assert gap.n_clusters == len(units) == 12
    assert gap.low > 0.3


def test_the_score_of_a_recovery_is_a_cosine():
    a = np.random.default_rng(0).normal(size=(4, 3))
    assert cosine(a, 3 * a) == pytest.approx(1)
    assert cosine(a, -a) == pytest.approx(-1)
    assert cosine(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])) == 0
    assert cosine(a, np.zeros_like(a)) == 0
