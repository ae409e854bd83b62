"""A part of the training perturbations of a split: nested subsets, for the score over their number."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd

from pertexp.config.errors import RequestError
from pertexp.data.screens.split_table import SplitTable

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingSubset:
    """Option of a split that trains on a part of its training perturbations.

    Attributes
    ----------
    n_train
        Training perturbations of a fold, at most; None: all. They come first in an order that `seed` draws for each
        fold, so that a smaller number gives a subset of a larger one. The others are excluded, in all contexts in which
        they would train; validation, test and control units are those of the whole split.
    """

    n_train: int | None = None

    def __post_init__(self) -> None:
        if self.n_train is not None and self.n_train < 1:
            raise RequestError(f"data.split.n_train={self.n_train}: type a number above 0, or null for all.")


class SeededSubset(Protocol):
    """A split with these two options."""

    @property
    def n_train(self) -> int | None:
        """As `TrainingSubset` has it."""

    @property
    def seed(self) -> int:
        """Of every draw of the split."""


S = TypeVar("S", bound=SeededSubset)
Split = Callable[[S, pd.DataFrame], SplitTable]


def excluding_the_rest(table: pd.DataFrame, n_train: int, seed: int) -> pd.DataFrame:
    """Return the rows of a split with all but the first `n_train` training perturbations of each fold excluded."""
    train = table["role"] == "train"
    kept = pd.Series(False, index=table.index)
    sizes = []
    for fold in table["fold"].unique().tolist():
        own = table["fold"] == fold
        among = np.unique(table.loc[own & train, "perturbation"].to_numpy(dtype=str))
        order = np.random.default_rng([seed, fold, 1]).permutation(among.size)
        kept |= own & table["perturbation"].isin(among[order[:n_train]])
        sizes.append(among.size)
    if max(sizes) <= n_train:
        log.info("data.split.n_train=%d keeps all training perturbations: no fold has more.", n_train)
    return table.assign(role=table["role"].mask(train & ~kept, "excluded"))
