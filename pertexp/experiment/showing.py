"""Show scores on the console: a table, where files were written, and the page."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

    from pertexp.evaluation.contract import ScoredRun
    from pertexp.runs.record import RecordedDesign


class Evaluated(NamedTuple):
    """A scored run, the design that it was made on, and the title of its table."""

    scored: "ScoredRun"
    design: "RecordedDesign"
    title: str


def console(width: int = 100) -> "Console":
    """Return the console: of its own width in a terminal, of `width` or more columns in a file."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else max(width, Console().width), markup=False)


def show(evaluated: Evaluated, folder: Path, shown: "Console") -> None:
    """Print the table, write the page, and print where both are."""
    from pertexp.tasks.registry import task_of_scored_run, write_page

    task = task_of_scored_run(evaluated.scored)
    for block in task.console(evaluated.scored, evaluated.title):
        shown.print(block, highlight=False)
    shown.print(f"written to {folder}", highlight=False, soft_wrap=True)
    shown.print(f"page: {write_page(folder)}", highlight=False, soft_wrap=True)
