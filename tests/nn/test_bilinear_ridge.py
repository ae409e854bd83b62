"""The bilinear ridge against the formula it promises to solve."""

import numpy as np
import pytest

from pertexp.nn.bilinear_ridge import RIDGES, choose_ridge, fit_bilinear_ridge


def problem(units=12, genes=20, d_genes=4, d_units=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(units, genes)), rng.normal(size=(genes, d_genes)), rng.normal(size=(units, d_units))


def normal_equations(effects, genes, rows, ridge):
    """K = (GᵀG + λI)⁻¹ Gᵀ (Y − b) P (PᵀP + λI)⁻¹, as the paper writes it."""
    centred = (effects - effects.mean(axis=0)).T
    left = np.linalg.inv(genes.T @ genes + ridge * np.eye(genes.shape[1]))
    right = np.linalg.inv(rows.T @ rows + ridge * np.eye(rows.shape[1]))
    return left @ genes.T @ centred @ rows @ right


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0, 1e4])
def test_solves_the_normal_equations(ridge):
    effects, genes, rows = problem()
    fit = fit_bilinear_ridge(effects, genes, rows, ridge)
    np.testing.assert_allclose(fit.kernel, normal_equations(effects, genes, rows, ridge), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(fit.bias, effects.mean(axis=0), rtol=1e-14)
    expected = (genes @ fit.kernel @ rows.T).T + fit.bias
    np.testing.assert_allclose(fit.effect(genes, rows), expected, rtol=1e-12)


def test_without_ridge_it_is_least_squares_on_the_kronecker_design():
    effects, genes, rows = problem()
    centred = effects - effects.mean(axis=0)
    design = np.kron(rows, genes)
    oracle = np.linalg.lstsq(design, centred.ravel(), rcond=None)[0].reshape(rows.shape[1], genes.shape[1]).T
    np.testing.assert_allclose(fit_bilinear_ridge(effects, genes, rows, 0.0).kernel, oracle, rtol=1e-9, atol=1e-12)


def test_collinear_embeddings_give_the_solution_of_least_norm():
    effects, genes, rows = problem()
    doubled = np.hstack([genes, genes[:, :2]])
    fit = fit_bilinear_ridge(effects, doubled, rows, 0.0)
    plain = fit_bilinear_ridge(effects, genes, rows, 0.0)
    np.testing.assert_allclose(fit.effect(doubled, rows), plain.effect(genes, rows), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fit.kernel[:2], fit.kernel[4:], rtol=1e-9, atol=1e-12)


def test_more_embedding_columns_than_rows_is_no_obstacle():
    effects, genes, rows = problem(units=3, d_units=40)
    fit = fit_bilinear_ridge(effects, genes, rows, 0.5)
    np.testing.assert_allclose(fit.kernel, normal_equations(effects, genes, rows, 0.5), rtol=1e-9, atol=1e-13)


def test_an_embedding_of_zeros_leaves_the_mean_effect():
    effects, genes, rows = problem()
    fit = fit_bilinear_ridge(effects, genes, np.zeros_like(rows), 0.0)
    assert not fit.kernel.any()
    np.testing.assert_allclose(fit.effect(genes, np.zeros((1, 3)))[0], effects.mean(axis=0))


def test_the_order_of_units_and_genes_does_not_matter():
    effects, genes, rows = problem()
    rng = np.random.default_rng(1)
    unit, gene = rng.permutation(len(rows)), rng.permutation(len(genes))
    plain = fit_bilinear_ridge(effects, genes, rows, 0.1)
    moved = fit_bilinear_ridge(effects[unit][:, gene], genes[gene], rows[unit], 0.1)
    np.testing.assert_allclose(moved.kernel, plain.kernel, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(moved.bias, plain.bias[gene], rtol=1e-12)


def planted(noise, seed=2):
    """Training and validation sides of one planted kernel."""
    rng = np.random.default_rng(seed)
    genes, kernel = rng.normal(size=(30, 3)), rng.normal(size=(3, 10))
    sides = []
    for units in (14, 8):
        rows = rng.normal(size=(units, 10)) / np.sqrt(10)
        sides.append((rows @ kernel.T @ genes.T + noise * rng.normal(size=(units, 30)), rows))
    return sides, genes


def test_the_chosen_ridge_has_the_least_error_on_validation_units():
    for noise in (0.01, 3.0, 30.0):
        (training, validation), genes = planted(noise)
        errors = []
        for ridge in RIDGES:
            fit = fit_bilinear_ridge(training[0], genes, training[1], ridge)
            errors.append(np.square(fit.effect(genes, validation[1]) - validation[0]).sum())
        assert choose_ridge(training, validation, genes) == RIDGES[int(np.argmin(errors))]


def test_noise_calls_for_more_ridge_and_nothing_to_choose_by_for_the_published_one():
    (training, validation), genes = planted(0.01)
    assert choose_ridge(training, validation, genes) == RIDGES[0]
    (noisy, noisy_validation), genes = planted(30.0)
    assert choose_ridge(noisy, noisy_validation, genes) > RIDGES[0]
    assert choose_ridge(noisy, (np.empty((0, 30)), np.empty((0, 10))), genes) == 0.1
