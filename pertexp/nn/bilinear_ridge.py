"""The bilinear ridge: effects as gene embedding × kernel × perturbation embedding, in closed form."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BilinearFit:
    """Δ = G K Pᵀ + b.

    Attributes
    ----------
    kernel
        K `[dg, dp]`.
    bias
        b `[G]`, the mean effect of each gene over the fitted perturbations.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def effect(self, gene_embedding: np.ndarray, perturbation_embedding: np.ndarray) -> np.ndarray:
        """Return `[U, G]` effects of the perturbations with rows `[U, dp]`."""
        effect: np.ndarray = perturbation_embedding @ self.kernel.T @ gene_embedding.T + self.bias
        return effect


def fit_bilinear_ridge(
    effects: np.ndarray, gene_embedding: np.ndarray, perturbation_embedding: np.ndarray, ridge: float
) -> BilinearFit:
    """K = (GᵀG + λI)⁻¹ Gᵀ (Y − b) P (PᵀP + λI)⁻¹ with b the row means of Y.

    Ahlmann-Eltze, Huber and Anders, Nature Methods 2025 (there λ = 0.1 on both sides). Solved through the singular
    value decompositions of G and P, so that a collinear embedding costs no accuracy.

    Parameters
    ----------
    effects
        Y transposed: `[U, G]`, one row a perturbation.
    gene_embedding, perturbation_embedding
        G `[G, dg]` and P `[U, dp]`.
    ridge
        λ ≥ 0; at 0 the least-squares solution of least norm.
    """
    bias = effects.mean(axis=0)
    left = _ridge_inverse(gene_embedding, ridge)
    right = _ridge_inverse(perturbation_embedding, ridge)
    return BilinearFit(left @ (effects - bias).T @ right.T, bias)


RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)


def choose_ridge(
    training: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray], gene_embedding: np.ndarray
) -> float:
    """Choose the λ of `RIDGES` with the least squared error on validation perturbations; 0.1, as published, without.

    Each side is (effects `[U, G]`, perturbation embedding `[U, dp]`).
    """
    effects, rows = validation
    if not len(effects):
        return RIDGES[0]

    def error(ridge: float) -> float:
        fit = fit_bilinear_ridge(training[0], gene_embedding, training[1], ridge)
        return float(np.square(fit.effect(gene_embedding, rows) - effects).mean())

    return min(RIDGES, key=error)


def _ridge_inverse(matrix: np.ndarray, ridge: float) -> np.ndarray:
    """(MᵀM + λI)⁻¹ Mᵀ `[d, n]`, singular directions without weight left at zero."""
    left, weight, right = np.linalg.svd(matrix, full_matrices=False)
    kept = weight > weight.max(initial=0.0) * max(matrix.shape) * np.finfo(float).eps
    shrunk = np.zeros_like(weight)
    shrunk[kept] = weight[kept] / (weight[kept] ** 2 + ridge)
    inverse: np.ndarray = right.T @ (shrunk[:, None] * left.T)
    return inverse
