"""One cluster bootstrap for every interval: over perturbations, chromosomes, or single units.

Percentile method (Efron 1979). Units of one cluster are drawn together, so that what they share widens the interval.
Undefined values are handled here and nowhere else: units without a value are left out and counted; resamples in which a
statistic has no value are left out, and an interval needs a value in at least half of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Weights held in memory at once.
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A mean or median with its bootstrap interval.

    Attributes
    ----------
    mean, low, high
        The statistic and the ends of the interval; NaN ends where there is none.
    n
        Units used.
    n_clusters
        Distinct clusters among them.
    n_left_out
        Units without a value (NaN).
    """

    mean: float
    low: float
    high: float
    n: int
    n_clusters: int
    n_left_out: int

    @property
    def excludes_zero(self) -> bool:
        """The interval lies wholly on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class ClusterBootstrap:
    """Resamples with replacement, the same for everything that is computed on the same units.

    Attributes
    ----------
    cluster
        `[n]` number of the cluster of each unit, from 0.
    n_resamples, seed
        How many resamples, and the seed that draws them.
    level
        Coverage aimed at.
    """

    cluster: np.ndarray
    n_resamples: int = 2000
    seed: int = 0
    level: float = 0.95

    @property
    def n_clusters(self) -> int:
        """Clusters to draw from, and drawn in each resample."""
        return int(self.cluster.max(initial=-1)) + 1

    def counts(self, columns: int | None = None) -> Iterator[np.ndarray]:
        """Yield how often each cluster is drawn `[r, K]`, block by block until all resamples are drawn.

        `columns` is the width of what is computed from a row, where that is more than K.
        """
        rng, count = np.random.default_rng(self.seed), self.n_clusters
        size = max(1, _BLOCK // max(columns or count, 1))
        for start in range(0, self.n_resamples, size):
            drawn = min(size, self.n_resamples - start)
            yield rng.multinomial(count, np.full(count, 1 / count), size=drawn)

    def weights(self) -> Iterator[np.ndarray]:
        """Yield how often each unit is drawn `[r, n]`, block by block."""
        for counts in self.counts(self.cluster.size):
            yield counts[:, self.cluster]

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Percentile interval of a statistic over resamples `[R]`.

        NaN ends with fewer than two clusters, or where fewer than half of the resamples have a value.
        """
        defined = values[~np.isnan(values)]
        if self.n_clusters < 2 or defined.size < values.size / 2:
            return np.nan, np.nan
        low, high = np.quantile(defined, [(1 - self.level) / 2, (1 + self.level) / 2])
        return float(low), float(high)


def bootstrap_mean(
    values: npt.ArrayLike,
    cluster: npt.ArrayLike,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Compute the mean over units with its interval over clusters.

    Parameters
    ----------
    values
        `[U]`; units without a value (NaN) are left out and counted.
    cluster
        `[U]` names of the clusters; with a single name, the units themselves are drawn.
    """
    kept, numbers, names, left_out = _defined(values, cluster)
    bootstrap = ClusterBootstrap(np.arange(len(kept)) if names == 1 else numbers, n_resamples, seed, level)
    low = high = np.nan
    if len(kept) > 1:
        sums, sizes = np.bincount(bootstrap.cluster, weights=kept), np.bincount(bootstrap.cluster)
        low, high = bootstrap.interval(np.concatenate([(c @ sums) / (c @ sizes) for c in bootstrap.counts()]))
    return Interval(float(kept.mean()) if len(kept) else np.nan, low, high, len(kept), names, left_out)


def bootstrap_median(
    values: npt.ArrayLike, cluster: npt.ArrayLike, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Compute the median over clusters, each the mean of its units, with its interval; NaN units are left out."""
    kept, numbers, names, left_out = _defined(values, cluster)
    if not names:
        return Interval(np.nan, np.nan, np.nan, 0, 0, left_out)
    own = np.sort(np.bincount(numbers, weights=kept) / np.bincount(numbers))
    bootstrap = ClusterBootstrap(np.arange(names), n_resamples, seed, level)
    low, high = bootstrap.interval(np.concatenate([_medians(own, counts) for counts in bootstrap.counts()]))
    return Interval(float(np.median(own)), low, high, len(kept), names, left_out)


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    cluster: npt.ArrayLike,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Compute `bootstrap_mean` of a - b, unit by unit: what two models share cancels out."""
    return bootstrap_mean(np.asarray(a) - np.asarray(b), cluster, n_resamples, seed, level)


def _defined(values: npt.ArrayLike, cluster: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return values that are defined, numbers of their clusters, how many clusters, and how many units are left out."""
    whole = np.asarray(values, dtype=np.float64)
    used = ~np.isnan(whole)
    names, numbers = np.unique(np.asarray(cluster, dtype=str)[used], return_inverse=True)
    return whole[used], numbers, len(names), int((~used).sum())


def _medians(ordered: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the median `[r]` of sorted values `[K]`, as often as `counts [r, K]` says; rows of counts sum to K."""
    upto, size = np.cumsum(counts, axis=1), len(ordered)
    below, above = ((upto > place).argmax(axis=1) for place in ((size - 1) // 2, size // 2))
    median: np.ndarray = (ordered[below] + ordered[above]) / 2
    return median
