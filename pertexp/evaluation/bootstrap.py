"""One cluster bootstrap for every interval: over perturbations, chromosomes, or single units.

Units of one cluster are drawn together, so that what they share widens the interval. A mean, or a difference of means,
has a studentised interval (bootstrap-t: Efron 1981; Hall 1988), or Student's t over few clusters. Any other statistic
has a percentile interval (Efron 1979), which is too narrow over few clusters: of 95 % intervals, 86 to 90 % hold the
AUPRC over six to eight chromosomes, and 88 % the median of seven values. `benchmarks/interval_coverage.py` measures it.

Undefined values are handled here and nowhere else: units without a value are left out and counted; resamples in which a
statistic has no value are left out, and a percentile interval needs a value in at least half of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

# Weights held in memory at once.
_BLOCK = 1_000_000
# Clusters from which on means are studentised. A resample that draws one cluster in all places, or in all but one, has
# a spread that says nothing; such are 3.4 % of the resamples of five clusters, so that the ends of a 95 % interval rest
# on them, and 0.4 % of those of six.
_FEWEST_STUDENTISED = 6
# Spread, relative to the values that it is computed from, below which there is none but rounding.
_ROUNDING = 1e-12


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

    def within(self, one: float, other: float) -> "Interval":
        """Return it without what lies beyond the bounds of the statistic, in either order; coverage stays as it is."""
        low, high = sorted((one, other))
        return replace(self, low=float(np.clip(self.low, low, high)), high=float(np.clip(self.high, low, high)))


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

    def interval_of_mean(self, values: np.ndarray) -> tuple[float, float]:
        """Compute the interval of the mean of values `[n]`, one for each unit and none of them NaN.

        From mean - q₁·s to mean - q₀·s. s is the standard error over clusters by linearisation of the mean as a ratio,
        the sum of the clusters' sums S over that of their sizes N: s² = K / (K - 1) · Σ (S - mean·N)² / (Σ N)². q₀ and
        q₁ are quantiles of t = (resampled mean - mean) / s of the resample, which know that a skewed mean errs more to
        one side. Resamples without a spread have no t and are left out. They are the ones of largest t, and 37 % of
        all where one cluster differs from all others; therefore neither end is nearer to the mean than Student's t with
        K - 1 degrees of freedom puts it. Over fewer than six clusters Student's t alone is used, and nothing is drawn.

        Ends may lie beyond what a metric can reach: no bound is known here, and cutting them would change no coverage.
        Values that differ by no more than rounding, and infinite means, are their own interval. NaN ends with fewer
        than two clusters.
        """
        if self.n_clusters < 2:
            return np.nan, np.nan
        mean = float(values.mean())
        if not np.isfinite(mean):
            return mean, mean
        sums, sizes = np.bincount(self.cluster, weights=values), np.bincount(self.cluster)
        residual = sums - mean * sizes
        scale = np.abs(residual).max()
        if scale <= _ROUNDING * np.abs(sums).max():
            return mean, mean
        error = scale * _error(((residual / scale) ** 2).sum(), sizes.sum(), self.n_clusters)
        low, high = self._quantiles_of_t(residual / scale, sizes)
        return float(mean - high * error), float(mean - low * error)

    def _quantiles_of_t(self, residual: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
        """Return the quantiles of Student's t, or of t over resamples where they lie further out."""
        high = float(stdtrit(self.n_clusters - 1, (1 + self.level) / 2))
        if self.n_clusters < _FEWEST_STUDENTISED:
            return -high, high
        drawn = np.concatenate([_studentised(counts, residual, sizes) for counts in self.counts()])
        lower, upper = np.nanquantile(drawn, [(1 - self.level) / 2, (1 + self.level) / 2])
        return min(float(lower), -high), max(float(upper), high)

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """Percentile interval of any statistic over resamples `[R]`.

        Not studentised: that takes a standard error of every resample, and a jackknife over K clusters computes the
        statistic K times more, seven times the cost of an evaluation at the fewest chromosomes. Medians have none at
        all, since their jackknife does not converge. Ends lie within the range of the statistic.

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
    """Compute the mean over units with its interval over clusters: see `ClusterBootstrap.interval_of_mean`.

    Parameters
    ----------
    values
        `[U]`; units without a value (NaN) are left out and counted.
    cluster
        `[U]` names of the clusters; with a single name, the units themselves are drawn.
    """
    kept, numbers, names, left_out = _defined(values, cluster)
    bootstrap = ClusterBootstrap(np.arange(len(kept)) if names == 1 else numbers, n_resamples, seed, level)
    low, high = bootstrap.interval_of_mean(kept)
    return Interval(float(kept.mean()) if len(kept) else np.nan, low, high, len(kept), names, left_out)


def bootstrap_median(
    values: npt.ArrayLike, cluster: npt.ArrayLike, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Compute the median over clusters, each the mean of its units, with its percentile interval; NaN are left out."""
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


def _error(spread: npt.ArrayLike, size: npt.ArrayLike, count: int) -> np.ndarray:
    """Compute the standard error of a ratio from its sum of squared residuals and its denominator; `count` clusters."""
    error: np.ndarray = np.sqrt(np.asarray(spread) * count / (count - 1)) / np.asarray(size)
    return error


def _studentised(counts: np.ndarray, residual: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Compute t `[r]` of resamples in which each cluster is drawn as often as `counts [r, K]` says; NaN without spread.

    `residual [K]` of the clusters about the mean of all of them; those about a resampled mean, which lies `shift` away
    from it, are residual - shift·size, and their squares are summed term by term.
    """
    terms = np.stack([residual, sizes, residual**2, residual * sizes, sizes.astype(np.float64) ** 2], axis=1)
    moved, size, squares, crossed, squared_sizes = (counts @ terms).T
    shift = moved / size
    spread = squares - 2 * shift * crossed + shift**2 * squared_sizes
    flat = spread <= _ROUNDING * squares
    return np.where(flat, np.nan, shift / _error(np.where(flat, 1.0, spread), size, len(sizes)))


def _medians(ordered: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the median `[r]` of sorted values `[K]`, as often as `counts [r, K]` says; rows of counts sum to K."""
    upto, size = np.cumsum(counts, axis=1), len(ordered)
    below, above = ((upto > place).argmax(axis=1) for place in ((size - 1) // 2, size // 2))
    median: np.ndarray = (ordered[below] + ordered[above]) / 2
    return median
