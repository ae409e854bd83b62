"""One setting over several seeds: the same pairs, and the mean of what every seed's model is worth."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pertexp.evaluation.pairs.scoring import PairScores, Values


@dataclass(frozen=True, eq=False)
class SeedMeans(PairScores):
    """Scores of which each value, and each resampled value, is the mean over seeds: all else follows from these.

    Attributes
    ----------
    parts
        The scores of each seed, of the same models on the same pairs in the same order, resampled alike.
    """

    parts: tuple[PairScores, ...] = ()

    @classmethod
    def over(cls, parts: tuple[PairScores, ...]) -> "SeedMeans":
        """The mean over these."""
        first = parts[0]
        return cls(first.predictions, first.primary, first.n_resamples, first.seed, parts)

    @cached_property
    def by_fold(self) -> pd.DataFrame:
        """A row per model, metric, cell line and fold: value, n, prevalence."""
        values = np.mean([part.by_fold["value"].to_numpy() for part in self.parts], axis=0)
        return self.parts[0].by_fold.assign(value=values)

    @cached_property
    def drawn(self) -> dict[str, Values]:
        """By model and metric `[R, C + 1]`: the resampled values of every line and fold, and of all pairs at once."""
        return {
            model: {name: np.mean([part.drawn[model][name] for part in self.parts], axis=0) for name in of_metric}
            for model, of_metric in self.parts[0].drawn.items()
        }
