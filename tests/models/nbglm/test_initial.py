"""What the NB-GLM knows of control cells before training: by context and phase of the cell cycle."""

from dataclasses import replace

import numpy as np
import pytest
from small_nbglm import simulated

from pertexp.models.nbglm.initial import closed_form, facts_of, start_from
from pertexp.models.nbglm.module import NBGLMOptions, build_network
from pertexp.nn.bilinear_ridge import RIDGES, BilinearFit, fit_bilinear_ridge
from pertexp.nn.dispersion import control_mean, estimate_dispersion


@pytest.fixture(scope="module")
def design():
    return simulated(n_contexts=2, cell_cycle_sd=0.6, n_controls=600).design


def controls(design, context=None, phase=None):
    screen = design.screen
    chosen = design.role == "control"
    chosen &= True if context is None else screen.context == context
    return chosen & (True if phase is None else screen.phase == phase)


def test_means_are_of_g1_cells_and_shares_of_all_phases(design):
    facts, counts = facts_of(design, design.size_factor, 0.5, cell_cycle=True), design.screen.expression
    for context in (0, 1):
        cells = controls(design, context, 0)
        expected = control_mean(counts[cells], design.size_factor[cells], 0.5)
        np.testing.assert_allclose(facts.log_control_mean[context].exp(), expected)
        np.testing.assert_array_equal(facts.unseen[context], counts[cells].sum(axis=0).A1 == 0)
        share = [controls(design, context, phase).sum() / controls(design, context).sum() for phase in range(3)]
        np.testing.assert_allclose(facts.phase_share[context], share)
        assert min(share) > 0


def test_dispersions_are_centred_within_context_and_phase(design):
    cells, screen = controls(design), design.screen
    names = np.array([f"{c}/{p}" for c, p in zip(screen.context[cells], screen.phase[cells], strict=True)])
    assert len(np.unique(names)) == 6
    expected = estimate_dispersion(screen.expression[cells], design.size_factor[cells], names).theta
    found = facts_of(design, design.size_factor, 0.5, cell_cycle=True).theta
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not np.allclose(found, facts_of(design, design.size_factor, 0.5, cell_cycle=False).theta, rtol=1e-2)


def test_without_the_cell_cycle_every_control_cell_counts(design):
    facts = facts_of(design, design.size_factor, 0.5, cell_cycle=False)
    cells = controls(design, 1)
    expected = control_mean(design.screen.expression[cells], design.size_factor[cells], 0.5)
    np.testing.assert_allclose(facts.log_control_mean[1].exp(), expected)
    assert facts.phase_share.tolist() == [[1, 0, 0]] * 2


def test_a_context_without_control_cells_in_g1_takes_those_of_all_phases(design):
    phase = np.where(controls(design, 1, 0), 1, design.screen.phase)
    other = replace(design, screen=replace(design.screen, phase=phase))
    facts, cells = facts_of(other, design.size_factor, 0.5, cell_cycle=True), controls(design, 1)
    expected = control_mean(design.screen.expression[cells], design.size_factor[cells], 0.5)
    np.testing.assert_allclose(facts.log_control_mean[1].exp(), expected)


def log_ratios(design, units, means):
    """log (Σy + a) / (Σs + a / μ_ctrl) − log μ_ctrl of each unit, cell by cell."""
    screen, rows = design.screen, []
    for perturbation, context in zip(units.perturbation, units.context, strict=True):
        cells = (screen.perturbation == perturbation) & (screen.context == context)
        control = np.exp(means[context])
        total = screen.expression[cells].toarray().sum(axis=0, dtype=np.float64) + 0.5
        rows.append(np.log(total / (design.size_factor[cells].sum() + 0.5 / control)) - means[context])
    return np.stack(rows)


def test_the_ridge_is_the_one_that_meets_validation_units_best(design):
    facts = facts_of(design, design.size_factor, 0.5, cell_cycle=False)
    training, genes, rows = design.training, design.training.gene_embedding, design.training.perturbation_embedding
    fitted, held = (log_ratios(design, units, facts.log_control_mean.numpy()) for units in (
        training.units, training.validation_units,
    ))  # fmt: skip
    errors, fits = [], []
    for ridge in RIDGES:
        fit = fit_bilinear_ridge(fitted, genes, rows[training.units.perturbation], ridge)
        guess = rows[training.validation_units.perturbation] @ fit.kernel.T @ genes.T + fit.bias
        errors.append(np.mean((guess - held) ** 2))
        fits.append(fit.kernel)
    found = closed_form(design, design.size_factor, facts, 0.5, None)
    np.testing.assert_allclose(found.kernel, fits[int(np.argmin(errors))], rtol=1e-8, atol=1e-10)
    given = closed_form(design, design.size_factor, facts, 0.5, RIDGES[-1])
    np.testing.assert_allclose(given.kernel, fits[-1], rtol=1e-8, atol=1e-10)


def test_a_start_without_effect_leaves_a_factor_that_gradients_flow_from(design):
    """K = A Bᵀ = 0 by A alone: with both at zero no gradient would reach either."""
    facts = facts_of(design, design.size_factor, 0.5, cell_cycle=False)
    network = build_network(facts, NBGLMOptions(rank=2))
    before = network.factors["B"].detach().clone()
    start_from(network, BilinearFit(np.zeros(network.kernel.shape), np.zeros(design.screen.n_genes)))
    assert before.abs().min() > 0
    assert (network.factors["B"] == before).all()
    assert not network.factors["A"].any()
