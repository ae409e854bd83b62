"""Many runs of any task: found, sorted into settings, and shown on one page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pertexp.config.errors import DataError, RequestError
from pertexp.evaluation.comparison import ScoredRows
from pertexp.evaluation.results.choice import Choice
from pertexp.evaluation.results.finding import Refused, find_runs
from pertexp.evaluation.results.learning_curve import LearningCurve, learning_curves
from pertexp.evaluation.results.settings import gather
from pertexp.evaluation.results.tables import ResultsTable, tables_of
from pertexp.report.leaderboard import ShownTable, write_leaderboard
from pertexp.report.provenance import spoken
from pertexp.report.settings import SettingsText
from pertexp.runs.schema import Comparison
from pertexp.tasks.registry import TASKS, read_results

_MOST_NAMES = 3


@dataclass(frozen=True)
class Compared:
    """A table of settings, its learning curves, its comparisons with a reference, and why there are none."""

    table: ResultsTable[ScoredRows]
    reference: str | None = None
    comparisons: tuple[Comparison, ...] = ()
    refused: str = ""
    curves: tuple[LearningCurve, ...] = ()

    @property
    def all_comparisons(self) -> list[Comparison]:
        """Those with the reference, then those of the learning curves."""
        return [*self.comparisons, *(found for curve in self.curves for found in curve.comparisons)]

    @property
    def text(self) -> SettingsText[ScoredRows]:
        """What its task says about it."""
        return TASKS[self.table.task].settings_text


@dataclass(frozen=True)
class Summary:
    """The results of many runs, computed once: the console, CSV files and the page show them."""

    source: str
    tables: list[Compared]
    refused: list[Refused]

    def write_page(self, out: Path) -> Path:
        """Write the page; its path."""
        shown = [ShownTable(one.table, one.text, one.reference, one.comparisons, one.curves) for one in self.tables]
        return write_leaderboard(out, shown, self.refused, self.source)


def summary_of(paths: Sequence[Path], choice: Choice | None = None, reference: str | None = None) -> Summary:
    """Compute the results of all runs at or beneath these paths.

    Parameters
    ----------
    choice
        What is chosen on validation.
    reference
        `key=value` of the setting that the others are compared with.

    Raises
    ------
    RequestError
        Where there is no run, or the choice cannot be made.
    """
    runs, failed = find_runs(paths)
    found = gather(runs, read_results, choice)
    tables = [_compared(table, reference) for table in tables_of(found.settings)]
    named = ", ".join(spoken(path.resolve()) for path in paths[:_MOST_NAMES])
    return Summary(named + (", …" if len(paths) > _MOST_NAMES else ""), tables, [*found.refused, *failed])


def _compared(table: ResultsTable[ScoredRows], reference: str | None) -> Compared:
    curves = learning_curves(table)
    if reference is None:
        return Compared(table, curves=curves)
    try:
        return Compared(table, reference, tuple(table.with_reference(reference)), curves=curves)
    except (RequestError, DataError) as fault:
        return Compared(table, reference, refused=str(fault), curves=curves)
