"""Resamples of pairs: whole chromosomes where there are enough of them, else pairs one by one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pertexp.evaluation.claims import FEWEST

# Weights held in memory at once.
_BLOCK = 1_000_000


@dataclass(frozen=True, eq=False)
class Resamples:
    """Draws with replacement, the same for every model, so that what two models share cancels out.

    Attributes
    ----------
    cluster
        `[n]` number of the cluster of each pair: all pairs of a cluster are drawn together.
    by_chromosome
        Whether clusters are chromosomes; else they are the pairs themselves.
    n_resamples, seed
        How many draws, and their seed.
    """

    cluster: np.ndarray
    by_chromosome: bool
    n_resamples: int
    seed: int

    @classmethod
    def of(cls, units: pd.DataFrame, n_resamples: int, seed: int) -> "Resamples":
        """Over the chromosomes of pairs where they lie on six or more, as folds that are pooled do."""
        names, cluster = np.unique(units["chromosome"].to_numpy(dtype=str), return_inverse=True)
        enough = len(names) >= FEWEST
        return cls(cluster if enough else np.arange(len(units)), enough, n_resamples, seed)

    @property
    def n_clusters(self) -> int:
        """Chromosomes, or pairs."""
        return int(self.cluster.max(initial=-1)) + 1

    def blocks(self) -> Iterator[np.ndarray]:
        """Weights `[r, n]` (how often a resample holds each pair), block by block until all are drawn."""
        rng = np.random.default_rng(self.seed)
        n, count = self.cluster.size, self.n_clusters
        size = max(1, _BLOCK // max(n, 1))
        for start in range(0, self.n_resamples, size):
            drawn = min(size, self.n_resamples - start)
            yield rng.multinomial(count, np.full(count, 1 / count), size=drawn)[:, self.cluster]

    def interval(self, values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval of resampled values `[R]`; NaN ends where fewer than half of them are defined."""
        defined = values[~np.isnan(values)]
        if defined.size < values.size / 2 or self.n_clusters < 2:
            return np.nan, np.nan
        low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    @property
    def said(self) -> str:
        """What intervals are over, in words."""
        if self.by_chromosome:
            return f"over {self.n_clusters} chromosomes"
        return "over pairs: too few chromosomes, as in a single fold, so they are too narrow where pairs share elements"
