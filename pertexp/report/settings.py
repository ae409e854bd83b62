"""Text around a table of settings, which each task provides: heading and footnotes."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from pertexp.evaluation.comparison import ScoredRows
from pertexp.evaluation.results.tables import ResultsTable
from pertexp.report.tables import Column, Row, Tile
from pertexp.runs.schema import CalibrationRow

S = TypeVar("S", bound=ScoredRows, contravariant=True)


class SettingsText(Protocol[S]):
    """Interface of the text that a task provides for a table of settings."""

    def tested(self, table: ResultsTable[S]) -> str:
        """Return what was tested, in words."""

    def notes(self, table: ResultsTable[S]) -> list[str]:
        """Further lines for the console, before the verdict."""

    def calibration(self, table: ResultsTable[S]) -> list[CalibrationRow]:
        """Return how far each metric is to be trusted; empty where that is not known."""

    def chance(self, table: ResultsTable[S], metric: str) -> float | None:
        """Return what a prediction at random scores; None where that is no number of its own."""

    def tiles(self, table: ResultsTable[S], rows: Sequence[Row], baseline: Row | None, column: Column) -> list[Tile]:
        """Return numbers at the head of the table."""

    def footnotes(self, table: ResultsTable[S], columns: Sequence[Column]) -> list[str]:
        """Return how the table is to be read."""
