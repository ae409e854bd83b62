"""What a task is: all that depends on it, in one object."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from pertexp.evaluation.results.results import Results
from pertexp.report.provenance import provenance_of
from pertexp.report.rendering import PAGE, write_html
from pertexp.report.settings import SettingsText
from pertexp.runs.reading import RunFolder, read_metrics
from pertexp.runs.schema import RunMetrics


@dataclass(frozen=True)
class Task:
    """A task: a sort of experiment, with data, models and scores of its own.

    Attributes
    ----------
    name
        As metrics.json has it.
    metrics, results
        Types of metrics.json, and of what a run was scored on.
    read_run
        Reads the folder of a run.
    page_of, template
        What the page of such a run shows, and its template.
    console
        Renders the report of a run under a title, block by block.
    settings_text
        What is said about tables of settings.
    """

    name: str
    metrics: type[RunMetrics]
    results: type[Results]
    read_run: Callable[[Path], RunFolder]
    page_of: Callable[[Any], Any]
    template: str
    console: Callable[[Any, str], Iterable[RenderableType]]
    settings_text: SettingsText

    def read_metrics(self, folder: Path) -> RunMetrics:
        """Read metrics.json; DataError where it cannot be read."""
        return read_metrics(folder, self.metrics)

    def read_results(self, folder: Path) -> tuple[RunMetrics, Results]:
        """Read what a run says of itself, and what it was scored on; DataError where either cannot be read."""
        return self.read_metrics(folder), self.results.of(folder)

    def write_page(self, folder: Path) -> Path:
        """Write report.html of a run from what lies in its folder; its path.

        Raises
        ------
        DataError
            Where a file of the folder cannot be read.
        """
        run = self.read_run(folder)
        return write_html(folder / PAGE, self.template, {"page": self.page_of(run), "run": provenance_of(run)})
