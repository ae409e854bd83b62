"""One setting over several seeds: the same pairs, and the mean of what every seed's model is worth."""

from collections.abc import Sequence
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
        return _averaged(super().by_fold, [part.by_fold for part in self.parts], ["cell_line", "fold"])

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """A row per model and metric over all pairs at once: value, low, high, n, prevalence."""
        return _averaged(super().pooled, [part.pooled for part in self.parts], [])

    @cached_property
    def drawn(self) -> dict[str, Values]:
        """By model and metric `[R, C]`: the resampled values of every line and fold."""
        return _mean_drawn([part.drawn for part in self.parts])

    @cached_property
    def drawn_at_once(self) -> dict[str, Values]:
        """By model and metric `[R, 1]`: the resampled values of all pairs at once."""
        return _mean_drawn([part.drawn_at_once for part in self.parts])


def _mean_drawn(parts: Sequence[dict[str, Values]]) -> dict[str, Values]:
    return {
        model: {name: np.mean([part[model][name] for part in parts], axis=0) for name in of_metric}
        for model, of_metric in parts[0].items()
    }


def _averaged(first: pd.DataFrame, tables: Sequence[pd.DataFrame], groups: list[str]) -> pd.DataFrame:
    """The first table with mean values; by name, since the tables of seeds may list their models in any order."""
    keys = ["model", "metric", *groups]
    rows = pd.MultiIndex.from_frame(first[keys])
    return first.assign(value=np.mean([table.set_index(keys)["value"].loc[rows] for table in tables], axis=0))
