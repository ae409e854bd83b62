"""Definition of a task: all that depends on it, in one object."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Generic, Never, TypeVar

from rich.console import RenderableType

from pertexp.config.errors import DataError
from pertexp.data.contract import RunData
from pertexp.evaluation.contract import CalibrationScores, Evaluation, RunEvaluation, ScoredRun
from pertexp.evaluation.results.results import Results
from pertexp.inference.predicting import Predicting
from pertexp.inference.restoring import Reader
from pertexp.metrics.output import OutputName
from pertexp.report.page import RunPage
from pertexp.report.settings import SettingsText
from pertexp.runs.reading import RunFolder, read_metrics
from pertexp.runs.record import RecordedDesign
from pertexp.runs.schema import RunMetrics

DataT = TypeVar("DataT", bound=RunData)
DesignT = TypeVar("DesignT", bound=RecordedDesign)
EvaluationT = TypeVar("EvaluationT", bound=Evaluation[Never, Never])  # of whatever data and model
ScoredRunT = TypeVar("ScoredRunT", bound=ScoredRun)

External = Callable[Concatenate[DataT, EvaluationT, ...], tuple[ScoredRun, RecordedDesign]]
"""Data, evaluation, and the options of a file of predictions, to a scored run and the design that it was made on."""


@dataclass(frozen=True)
class Calibration(Generic[DataT, DesignT, EvaluationT]):
    """How a task calibrates metrics.

    Attributes
    ----------
    measure
        Data, evaluation, and a function that shows progress over folds, to scores.
    console
        Renders the scores under a title.
    """

    measure: Callable[[DataT, EvaluationT, Callable[[Iterable[DesignT]], Iterable[DesignT]]], CalibrationScores]
    console: Callable[[CalibrationScores, str], RenderableType]


@dataclass(frozen=True)
class Evaluator(Generic[DataT, EvaluationT]):
    """How a task scores models that declare one output, and predicts with them.

    Attributes
    ----------
    choice
        What to type to have them scored, `evaluation=core`.
    predicting
        What can be asked of a trained model.
    external
        Scores predictions of another tool; None where the task cannot.
    read_run
        Reads the folder of a run for its page; None where the page reads it as it is.
    """

    choice: str
    predicting: Predicting[Any]
    external: External[DataT, EvaluationT] | None = None
    read_run: Callable[[Path], RunFolder] | None = None


@dataclass(frozen=True)
class Task(Generic[DataT, DesignT, EvaluationT, ScoredRunT]):
    """A task: a sort of experiment, with data, models and scores of its own.

    Attributes
    ----------
    name
        As metrics.json has it.
    metrics, results
        Types of metrics.json, and of what a run was scored on.
    page
        How the folder of a run is read, and the sections of its page.
    evaluators
        What is done with a model, by the output that it declares.
    console
        Renders a scored run under a title, block by block.
    settings_text
        What is said about tables of settings.
    restorable
        Of design, model and data, what a checkpoint holds so that the model is restored from it alone.
    restore
        Restores a model from the contents of a checkpoint, its path, and the configuration tree.
    data_advice, model_advice
        What to type for data, and for a model with its evaluation, of this task.
    calibration
        Measures which metrics to trust on a data set; None where the task cannot.
    write_samples
        Writes to a folder what a model draws at the end of a run, with the design and a seed; None where none draws.
    """

    name: str
    metrics: type[RunMetrics]
    results: type[Results]
    page: RunPage[Any]
    evaluators: Mapping[OutputName, Evaluator[DataT, EvaluationT]]
    console: Callable[[ScoredRunT, str], Iterable[RenderableType]]
    settings_text: SettingsText[Any]
    restorable: Callable[[DesignT, dict[str, Any], dict[str, Any]], dict[str, Any]]
    restore: Reader
    data_advice: str
    model_advice: str
    calibration: Calibration[DataT, DesignT, EvaluationT] | None = None
    write_samples: Callable[[object, DesignT, int, Path], None] | None = None

    @property
    def choices(self) -> dict[OutputName, str]:
        """What to type to score each output that its models declare."""
        return {output: evaluator.choice for output, evaluator in self.evaluators.items()}

    def evaluator_of(self, folder: Path) -> Evaluator[DataT, EvaluationT]:
        """Return what is done with the model of a run; DataError where that predicts what this task does not score."""
        predicts = self.read_metrics(folder).predicts
        if predicts not in self.evaluators:
            raise DataError(f"{folder} scored a predicted {predicts}, which {self.name} do not have: run it again.")
        return self.evaluators[predicts]

    def read_metrics(self, folder: Path) -> RunMetrics:
        """Read metrics.json; DataError where it cannot be read."""
        return read_metrics(folder, self.metrics)

    def read_results(self, folder: Path) -> tuple[RunMetrics, Results]:
        """Read what a run says of itself, and what it was scored on; DataError where either cannot be read."""
        metrics = self.read_metrics(folder)
        return metrics, self.results.of(folder, metrics)


RunTask = Task[RunData, RecordedDesign, RunEvaluation, ScoredRun]
"""The task of a run, whose functions take its data, design, evaluation and scores."""
