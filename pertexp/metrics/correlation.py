"""Correlations: row by row, and as contributions that add up to one number over perturbations."""

import numpy as np
from scipy.stats import rankdata


def standardised(values: np.ndarray) -> np.ndarray:
    """Return rows `[U, G]` with mean 0 and norm 1; NaN rows where they do not vary."""
    centred = values - values.mean(axis=-1, keepdims=True)
    norm = np.linalg.norm(centred, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, centred / norm, np.nan)


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation of the rows of a and b `[U]`; NaN where one of them does not vary."""
    correlation: np.ndarray = np.clip((standardised(a) * standardised(b)).sum(axis=-1), -1.0, 1.0)
    return correlation


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's ρ of two vectors, ties at mid-ranks; NaN where one of them does not vary or has one entry."""
    return float(pearson(rankdata(a)[None], rankdata(b)[None])[0]) if a.size > 1 else np.nan


def contributions(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return what each perturbation adds to a Pearson correlation over perturbations `[U]`; their mean is it."""
    contribution: np.ndarray = a.size * standardised(a) * standardised(b)
    return contribution
