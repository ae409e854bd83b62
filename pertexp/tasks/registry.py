"""The registry of tasks: all that depends on the task of a run is looked up here."""

import pydoc
from dataclasses import replace
from pathlib import Path
from typing import Any

from pertexp.config.errors import DataError, MismatchError
from pertexp.config.search_path import SearchPath
from pertexp.data.contract import RunData
from pertexp.evaluation.contract import RunEvaluation, ScoredRun
from pertexp.evaluation.results.results import Results
from pertexp.inference import restoring
from pertexp.inference.predicting import Predicting
from pertexp.inference.trained import Restored
from pertexp.report.page import RunPage
from pertexp.report.sections import PLUGINS, Section, installed_sections
from pertexp.runs.reading import task_name
from pertexp.runs.schema import RunMetrics
from pertexp.tasks.base import RunTask, Task
from pertexp.tasks.pairs import PAIRS
from pertexp.tasks.screens import SCREENS

TASKS: dict[str, RunTask] = {}


def register(task: Task[Any, Any, Any, Any]) -> None:
    """Add a task; ValueError where its name is taken.

    Its types end here: `require_fit` sees to it that data, evaluation and model of a run are of one task.
    """
    if task.name in TASKS:
        raise ValueError(f"there is a task {task.name} already.")
    TASKS[task.name] = task


register(SCREENS)
register(PAIRS)


def register_section(task: str, section: Section[Any]) -> None:
    """Add a section to the pages of a task, after its own, in this process; ValueError where its id is taken."""
    TASKS[task] = replace(TASKS[task], page=TASKS[task].page.with_sections([section]))


def require_fit(data: RunData, evaluation: RunEvaluation, model_target: str, names: dict[str, str]) -> RunTask:
    """Refuse data, evaluation and model that are not of one task; return the task.

    Parameters
    ----------
    model_target
        What builds the model, `package.Model.from_data`: the class declares what it `predicts`.
    names
        Names of data, evaluation and model, as they are typed.

    Raises
    ------
    MismatchError
        Where data and evaluation are of different tasks, or the model predicts what the evaluation does not score.
    """
    task = require_task(data, evaluation, names)
    _require_output(pydoc.locate(model_target.rpartition(".")[0]), evaluation, task, names)
    return task


def require_model(data: RunData, evaluation: RunEvaluation, model: object, names: dict[str, str]) -> None:
    """Refuse (MismatchError) a model, now that it is built, whose predictions the evaluation cannot score."""
    _require_output(model, evaluation, TASKS[evaluation.task], names)
    evaluation.require_model(data, model, names["model"])


def declared_name(model: object) -> str | None:
    """Return the name of what a model, or its class, declares that it predicts; None where it declares nothing."""
    name = getattr(getattr(model, "predicts", None), "name", None)
    return None if name is None else str(name)


def _require_output(model: object, evaluation: RunEvaluation, task: RunTask, names: dict[str, str]) -> None:
    """Refuse a model, or its class, that does not declare what the evaluation scores."""
    predicts, found = getattr(model, "predicts", None), declared_name(model)
    if found == evaluation.scores_output:
        return
    if predicts is None:
        declared = "declares no `predicts`"
    elif found is None:
        declared = f"declares {predicts!r}, which is no declaration of pertexp.metrics.output"
    else:
        declared = f"predicts {found}"
    advice = {str(output): choice for output, choice in task.choices.items()}.get(str(found), task.model_advice)
    raise MismatchError(
        f"evaluation={names['evaluation']} scores models that predict {evaluation.scores_output}, but "
        f"model={names['model']} {declared}: type {advice}."
    )


def require_task(data: RunData, evaluation: RunEvaluation, names: dict[str, str]) -> RunTask:
    """Return the task of data and evaluation.

    Raises
    ------
    MismatchError
        Where the evaluation is of another task than the data.
    DataError
        Where sections of an installed plug-in are none: said before anything is trained, not at the page.
    """
    task, other = TASKS[evaluation.task], TASKS[data.task]
    if task is not other:
        raise MismatchError(
            f"evaluation={names['evaluation']} scores {task.name}, but data={names['data']} holds {other.name}: type "
            f"{task.data_advice}, or {other.model_advice}."
        )
    _page_of(task)
    return task


def restore(place: str, search_path: SearchPath | None = None) -> Restored:
    """Restore the trained model of a run folder or checkpoint file, of any task.

    Parameters
    ----------
    place
        The run folder, or the checkpoint file.
    search_path
        Whose files say which models may be built; None: of this package and of installed plug-ins.
    """
    readers = {task.name: task.restore for task in TASKS.values()}
    return restoring.restore(place, search_path or SearchPath.installed(), readers)


def predicting_of(trained: Restored) -> Predicting[Any]:
    """Return what can be asked of a trained model."""
    predicts = declared_name(trained.model)
    for output, evaluator in TASKS[trained.task].evaluators.items():
        if output == predicts:
            return evaluator.predicting
    raise DataError(f"{trained.path} holds a model that predicts {predicts}, which no model of {trained.task} does.")


def all_predicting() -> list[Predicting[Any]]:
    """Return what can be asked of models of every task and output."""
    return [evaluator.predicting for task in TASKS.values() for evaluator in task.evaluators.values()]


def task_of(folder: Path) -> RunTask:
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


def task_of_scored_run(scored: ScoredRun) -> RunTask:
    """Return the task that a scored run belongs to."""
    return TASKS[scored.metrics.task]


def read_results(folder: Path) -> tuple[RunMetrics, Results]:
    """Read what a run of any task says of itself, and what it was scored on."""
    return task_of(folder).read_results(folder)


def write_page(folder: Path) -> Path:
    """Write report.html of a run of any task, with the sections of installed plug-ins; its path.

    Raises
    ------
    DataError
        Where the folder holds no finished run, a file of it cannot be read, or sections of a plug-in are none.
    """
    task = task_of(folder)
    page, read_run = _page_of(task), task.evaluator_of(folder).read_run
    return (page if read_run is None else replace(page, read=read_run)).write(folder)


def _page_of(task: RunTask) -> RunPage[Any]:
    """Return the page of its runs, with the sections of installed plug-ins."""
    try:
        return task.page.with_sections(installed_sections(TASKS)[task.name])
    except ValueError as fault:
        raise DataError(f"installed plug-ins add sections that do not fit (entry point {PLUGINS}): {fault}") from fault
