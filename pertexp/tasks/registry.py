"""The registry of tasks: what depends on the task of a run is looked up here, and nowhere else."""

from pathlib import Path

from pertexp.errors import DataError
from pertexp.evaluation.contract import Report
from pertexp.evaluation.results.results import Results
from pertexp.runs.reading import task_name
from pertexp.runs.schema import RunMetrics
from pertexp.tasks.base import Task
from pertexp.tasks.pairs import PAIRS
from pertexp.tasks.screens import SCREENS

TASKS: dict[str, Task] = {task.name: task for task in (SCREENS, PAIRS)}


def task_of(folder: Path) -> Task:
    """Return the task of a run folder.

    Raises
    ------
    DataError
        Where its metrics.json cannot be read, or is of a task that is not known.
    """
    name = task_name(folder)
    if name not in TASKS:
        raise DataError(f"{folder} is a run of the task {name}; expected one of {', '.join(TASKS)}.")
    return TASKS[name]


def task_of_report(report: Report) -> Task:
    """Return the task that a report belongs to."""
    return TASKS[report.metrics.task]


def read_results(folder: Path) -> tuple[RunMetrics, Results]:
    """Read what a run of any task says of itself, and what it was scored on."""
    return task_of(folder).read_results(folder)


def write_page(folder: Path) -> Path:
    """Write report.html of a run of any task; its path.

    Raises
    ------
    DataError
        Where the folder holds no finished run, or a file of it cannot be read.
    """
    return task_of(folder).write_page(folder)
