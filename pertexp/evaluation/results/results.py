"""The interface between the results layer and a task: scored units, joined over folds, averaged over seeds."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd

from pertexp.evaluation.comparison import ScoredRows
from pertexp.evaluation.roles import RowRoles
from pertexp.runs.schema import RunMetrics


class Results(ABC):
    """Scored units of one run, or of several that are folds and seeds of one setting."""

    roles: RowRoles

    @classmethod
    @abstractmethod
    def of(cls, folder: Path, metrics: RunMetrics) -> Self:
        """Read those of a finished run, whose metrics.json is read; DataError where they cannot be read."""

    @classmethod
    @abstractmethod
    def pooled(cls, parts: Sequence[Self]) -> Self:
        """Join the folds of one seed; DataError where they do not go together."""

    @classmethod
    @abstractmethod
    def averaged(cls, parts: Sequence[Self]) -> Self:
        """Average several seeds unit by unit."""

    @classmethod
    @abstractmethod
    def side_by_side(cls, parts: Mapping[str, Self]) -> Self:
        """Put the models of several settings into one table, under the names of the settings.

        Raises
        ------
        DataError
            Where the settings were scored on different units.
        """

    @property
    @abstractmethod
    def tested(self) -> tuple[Any, ...]:
        """Folds, or other parts, that were held out; sorted."""

    @property
    @abstractmethod
    def where(self) -> str:
        """The same in words."""

    @property
    @abstractmethod
    def units(self) -> frozenset[tuple[Any, ...]]:
        """Everything that was scored."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Metrics that were measured, in order."""

    @abstractmethod
    def means(self) -> pd.DataFrame:
        """Return means `[model × metric]`, without intervals."""

    def value(self, model: str, metric: str) -> float:
        """Return one of the means; NaN where the metric applies to nothing."""
        means = self.means()
        return float(means[metric][model]) if metric in means and model in means.index else math.nan

    def without_repeated(self, first: Self) -> Self:  # noqa: ARG002
        """Leave out rows that score as in the first of a table, where their intervals are costly; default: none."""
        return self

    @abstractmethod
    def scores(self, primary: str) -> ScoredRows:
        """Compute scores with intervals."""
