"""What a leaderboard asks of a run, whatever its kind: what it was judged by, and what that lets one say."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import pandas as pd

from pertexp.report.tables import Column, Row, Tile
from pertexp.runs.reading import Trust


class Standing(Protocol):
    """The scores of one setting, the primary metric first."""

    @property
    def models(self) -> tuple[str, ...]:
        """All that was scored, in order."""

    @property
    def aggregate(self) -> pd.DataFrame:
        """A row per model and metric: model, metric, mean, low, high, n."""

    def summary(self, model: str, metric: str) -> pd.Series:
        """Row of `aggregate`."""

    def verdict(self) -> list[str]:
        """Sentences about the model, the primary metric first."""

    def kind(self, name: str) -> str:
        """What a scored name is: `model`, `baseline`, or a row that competes with none."""

    def note(self, name: str) -> str:
        """What stands beneath a name."""

    @property
    def trust(self) -> list[Trust]:
        """How far each metric is to be trusted; empty where that is not known."""

    @property
    def said(self) -> str:
        """What was tested, in words."""

    def chance(self, metric: str) -> float | None:
        """What knows nothing scores; None where that is no number of its own."""

    def tiles(self, rows: Sequence[Row], baseline: Row | None, column: Column) -> list[Tile]:
        """Numbers at the head of the board."""

    def footnotes(self, columns: Sequence[Column]) -> list[str]:
        """How the table is to be read."""


class Evidence(ABC):
    """What one run, or several that are folds and seeds of one setting, were judged by."""

    @classmethod
    @abstractmethod
    def of(cls, folder: Path) -> Self:
        """Of a finished run; DataError where it cannot be read."""

    @classmethod
    @abstractmethod
    def pooled(cls, parts: Sequence[Self]) -> Self:
        """Folds of one seed together; DataError where they do not go together."""

    @classmethod
    @abstractmethod
    def averaged(cls, parts: Sequence[Self]) -> Self:
        """Seeds that were judged by the same units, as one."""

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
        """All that it was judged by."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Metrics that were measured, in order."""

    @abstractmethod
    def means(self) -> pd.DataFrame:
        """`[model × metric]`, without intervals."""

    def value(self, model: str, metric: str) -> float:
        """One of the means; NaN where the metric applies to nothing."""
        means = self.means()
        return float(means[metric][model]) if metric in means and model in means.index else math.nan

    @abstractmethod
    def beside(self, first: Self) -> Self:
        """What is worth scoring beside the first of a table: rows that could not stand there may be left out."""

    @abstractmethod
    def standing(self, primary: str) -> Standing:
        """Scores with intervals."""
