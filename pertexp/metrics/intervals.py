"""Bootstrap intervals over perturbations (Efron 1979, percentile method)."""

from dataclasses import dataclass

import numpy as np

# Draws held in memory at once.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes
    ----------
    mean, low, high
        Mean over rows (or their median) and the ends of the interval; NaN ends where one row or none is left.
    n
        Rows used.
    n_perturbations
        Distinct perturbations among them.
    n_left_out
        Rows that were not applicable (NaN).
    """

    mean: float
    low: float
    high: float
    n: int
    n_perturbations: int
    n_left_out: int

    @property
    def excludes_zero(self) -> bool:
        """The interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(
    values: np.ndarray,
    perturbation: np.ndarray,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Mean over rows with a percentile interval over perturbations.

    Parameters
    ----------
    values
        `[U]`; NaN rows are left out and counted.
    perturbation
        `[U]` names: all rows of one name are drawn together; with a single name, rows (contexts × folds).
    n_resamples, seed, level
        Number of draws, their seed, and the coverage aimed at.
    """
    values = np.asarray(values, dtype=np.float64)
    used = ~np.isnan(values)
    names, cluster = np.unique(np.asarray(perturbation, dtype=str)[used], return_inverse=True)
    kept = values[used]
    low = high = np.nan
    if len(kept) > 1:
        cluster = np.arange(len(kept)) if len(names) == 1 else cluster
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(_resampled_means(kept, cluster, n_resamples, seed), tails)
    mean = float(kept.mean()) if len(kept) else np.nan
    return Interval(mean, float(low), float(high), len(kept), len(names), int((~used).sum()))


def bootstrap_median(
    values: np.ndarray, perturbation: np.ndarray, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Median over perturbations, each the mean of its rows, with a percentile interval; NaN rows are left out."""
    values = np.asarray(values, dtype=np.float64)
    used = ~np.isnan(values)
    names, cluster = np.unique(np.asarray(perturbation, dtype=str)[used], return_inverse=True)
    if not len(names):
        return Interval(np.nan, np.nan, np.nan, 0, 0, int((~used).sum()))
    own = np.bincount(cluster, weights=values[used]) / np.bincount(cluster)
    low = high = np.nan
    if len(own) > 1:
        draw = np.random.default_rng(seed).integers(len(own), size=(n_resamples, len(own)))
        low, high = np.quantile(np.median(own[draw], axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.median(own)), float(low), float(high), int(used.sum()), len(names), int((~used).sum()))


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    perturbation: np.ndarray,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """`bootstrap_mean` of a - b, row by row: what two models share cancels out."""
    return bootstrap_mean(np.asarray(a) - np.asarray(b), perturbation, n_resamples, seed, level)


def _resampled_means(values: np.ndarray, cluster: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """`[n_resamples]` means over the rows of as many clusters, drawn with replacement."""
    sums, sizes = np.bincount(cluster, weights=values), np.bincount(cluster).astype(np.float64)
    n = len(sums)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // n)
    means = []
    for start in range(0, n_resamples, block):
        draw = rng.integers(n, size=(min(block, n_resamples - start), n))
        means.append(sums[draw].sum(axis=1) / sizes[draw].sum(axis=1))
    return np.concatenate(means)
