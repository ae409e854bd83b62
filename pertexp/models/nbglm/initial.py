"""Initial values of the NB-GLM: control means, dispersions, and the closed-form kernel."""

import logging

import numpy as np
import torch

from pertexp.config.errors import DataError
from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import Units, group_sums, unit_groups
from pertexp.models.nbglm.network import Facts, NBGLMNetwork
from pertexp.nn.bilinear_ridge import BilinearFit, choose_ridge, fit_bilinear_ridge
from pertexp.nn.dispersion import control_mean, estimate_dispersion

log = logging.getLogger(__name__)


def facts_of(design: Design, size_factor: np.ndarray, pseudo_count: float, *, cell_cycle: bool) -> Facts:
    """Statistics of fitted control cells `[C, G]` and dispersions `[G]`.

    μ_ctrl = (Σy + a) / (Σs + a/mean) by context; with the cell cycle on, over G1 cells, whose phase effect is 0.
    θ is fitted on control cells, centred within contexts (and phases).
    """
    screen = design.screen
    control = design.role == "control"
    phase = np.zeros(screen.n_cells, dtype=np.int64) if screen.phase is None or not cell_cycle else screen.phase
    means, unseen = [], []
    for context in range(len(screen.contexts)):
        own = control & (screen.context == context)
        reference = own & (phase == 0) if (own & (phase == 0)).any() else own
        counts = screen.expression[reference]
        means.append(control_mean(counts, size_factor[reference], pseudo_count))
        unseen.append(np.asarray(counts.sum(axis=0)).ravel() == 0)
    _require_seen(np.stack(means), pseudo_count, "the control cells of a context")
    group = (screen.context * 3 + phase)[control]
    theta = estimate_dispersion(screen.expression[control], size_factor[control], group).theta
    share = np.zeros((len(screen.contexts), 3))
    np.add.at(share, (screen.context[control], phase[control]), 1)
    return Facts(
        gene_embedding=torch.from_numpy(design.training.gene_embedding),
        perturbation_embedding=torch.from_numpy(design.training.perturbation_embedding),
        log_control_mean=torch.from_numpy(np.log(np.stack(means))),
        unseen=torch.from_numpy(np.stack(unseen)),
        theta=torch.from_numpy(theta),
        phase_share=torch.from_numpy(share / share.sum(axis=1, keepdims=True)),
    )


def closed_form(
    design: Design, size_factor: np.ndarray, facts: Facts, pseudo_count: float, ridge: float | None
) -> BilinearFit:
    """Compute the bilinear ridge on log mean ratios of the training units: the small-effect limit of the model.

    λ is chosen on the validation units where `ridge` is None.
    """
    genes, rows = design.training.gene_embedding, design.training.perturbation_embedding
    sides = [
        (_log_ratios(design, units, size_factor, facts, pseudo_count), rows[units.perturbation])
        for units in (design.training.units, design.training.validation_units)
    ]
    chosen = choose_ridge(sides[0], sides[1], genes) if ridge is None else ridge
    log.info("closed-form start with λ=%g%s", chosen, " (chosen on validation units)" if ridge is None else "")
    return fit_bilinear_ridge(sides[0][0], genes, sides[0][1], chosen)


def _log_ratios(design: Design, units: Units, size_factor: np.ndarray, facts: Facts, pseudo_count: float) -> np.ndarray:
    """Return `[U, G]` log μ − log μ_ctrl, each unit with the pseudo-count of the control mean as its prior."""
    sums = group_sums(design.screen, size_factor, unit_groups(design.screen, units), len(units))
    reference = facts.log_control_mean.numpy()[units.context]
    prior = pseudo_count / np.exp(reference)
    mean = (sums.total + pseudo_count) / (sums.exposure[:, None] + prior)
    _require_seen(mean, pseudo_count, "a perturbation")
    ratios: np.ndarray = np.log(mean) - reference
    return ratios


def _require_seen(mean: np.ndarray, pseudo_count: float, where: str) -> None:
    if (mean <= 0).any():
        gene = int(np.argmax((mean <= 0).any(axis=0)))
        raise DataError(
            f"gene number {gene + 1} has no count in {where} and model.pseudo_count={pseudo_count} gives it no prior, "
            "so that its log mean is -∞: type model.pseudo_count=0.5."
        )


@torch.no_grad()
def start_from(network: NBGLMNetwork, fit: BilinearFit) -> None:
    """Set K and b so that α·(G K P + b) is the linear fit; with a rank, its best approximation of that rank."""
    alpha = network.log_alpha.exp()
    kernel = torch.from_numpy(fit.kernel).to(alpha.dtype) / alpha
    network.bias.copy_(torch.from_numpy(fit.bias).to(alpha.dtype) / alpha)
    if "K" in network.factors:
        network.factors["K"].copy_(kernel)
        return
    left, weight, right = torch.linalg.svd(kernel, full_matrices=False)
    rank = min(network.factors["A"].shape[1], int((weight > weight.max() * 1e-7).sum()))
    network.factors["A"][:, :rank] = left[:, :rank] * weight[:rank].sqrt()
    network.factors["B"][:, :rank] = right[:rank].T * weight[:rank].sqrt()
