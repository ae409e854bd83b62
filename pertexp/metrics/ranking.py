"""Ranking metrics: areas under curves, and the top entries of a row; tied scores count alike in any order."""

import numpy as np
from scipy.stats import rankdata


def average_precision(score: np.ndarray, label: np.ndarray) -> float:
    """Return Σ (R_i - R_(i-1)) P_i over thresholds, ties entered together `[G]`; NaN where labels are all alike."""
    positives = int(label.sum())
    if positives in (0, label.size):
        return np.nan
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    hits = np.cumsum(label[order])[ends]
    precision = hits / (ends + 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / positives)


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """Return the area under the ROC curve, ties at mid-ranks `[G]`; NaN where labels are all alike."""
    positives = int(label.sum())
    negatives = label.size - positives
    if not positives or not negatives:
        return np.nan
    return float((rankdata(score)[label].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def top_weights(score: np.ndarray, allowed: np.ndarray, k: int | np.ndarray) -> np.ndarray:
    """Give weight 1 to the k (one number, or one a row) highest of the allowed genes of each row `[U, G]`.

    Genes tied at the cut share the places left.
    """
    score = np.where(allowed, score, -np.inf)
    places = np.minimum(k, allowed.sum(axis=1))
    rank = np.maximum(places, 1) - 1
    cut = np.take_along_axis(-np.sort(-score, axis=1), rank[:, None], axis=1)
    above, tied = score > cut, (score == cut) & allowed
    share = (places - above.sum(axis=1)) / np.maximum(tied.sum(axis=1), 1)
    weights: np.ndarray = above + tied * share[:, None]
    return weights
