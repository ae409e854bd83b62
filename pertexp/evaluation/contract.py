"""The interface of what scores the model of a run."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeAlias, TypeVar

import pandas as pd

from pertexp.config.errors import RequestError
from pertexp.metrics.metric import Metric
from pertexp.metrics.output import OutputName
from pertexp.runs.documents import dumped
from pertexp.runs.record import whole
from pertexp.runs.schema import METRICS_FILE, RunMetrics

if TYPE_CHECKING:
    from pertexp.data.contract import RunData


@dataclass(frozen=True, kw_only=True)
class ScoredRun(ABC):
    """The results of one run.

    Attributes
    ----------
    metrics
        What metrics.json holds.
    """

    metrics: RunMetrics

    def with_validation(self, validation: Mapping[str, float]) -> Self:
        """Add the validation metrics of the epoch that was kept."""
        return replace(self, metrics=replace(self.metrics, validation=dict(validation)))

    def write(self, folder: Path) -> None:
        """Write what was scored, then metrics.json, each file whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        text = dumped(self.metrics)
        self.write_units(folder)
        with whole(folder / METRICS_FILE) as partial:
            partial.write_text(text, encoding="utf-8")

    @abstractmethod
    def write_units(self, folder: Path) -> None:
        """Write what was scored, unit by unit."""


def require_metrics(metrics: Iterable[Metric], output: OutputName) -> None:
    """Refuse metrics that are computed from another prediction than an evaluation scores.

    Raises
    ------
    RequestError
        Naming the first of them, and what it is computed from.
    """
    wrong = next((metric for metric in metrics if metric.output != output), None)
    if wrong is not None:
        raise RequestError(
            f"{wrong.name} is computed from a predicted {wrong.output}, and this evaluation scores models that predict "
            f"{output}: leave it out, or score a model that predicts {wrong.output} with it alone."
        )


DataT = TypeVar("DataT", contravariant=True)
ModelT = TypeVar("ModelT", contravariant=True)


class Evaluation(Protocol[DataT, ModelT]):
    """An evaluation: it scores a trained model on the data of its run.

    Attributes
    ----------
    task
        Name of the task whose data it scores.
    scores_output
        What a model has to predict to be scored: `profile`, `impact` or `probability`, as models declare it.
    """

    task: ClassVar[str]
    scores_output: ClassVar[OutputName]

    def require(self, data: DataT) -> None:
        """Refuse, before anything is trained, data that it cannot score."""

    def require_model(self, data: DataT, model: ModelT, name: str) -> None:
        """Refuse, before it is trained, a model called `name` whose predictions cannot be scored on these data."""

    def __call__(self, data: DataT, model: ModelT, name: str) -> ScoredRun:
        """Score the model called `name` and all baselines."""


RunEvaluation: TypeAlias = Evaluation["RunData", object]
"""The evaluation of a run, which scores its data and its model: `pertexp.tasks.registry.require_fit` sees to it."""


class CalibrationScores(Protocol):
    """How reliable every metric is on a data set."""

    @property
    def calibration(self) -> pd.DataFrame:
        """One row per metric: ends of its scale, DRF and BDS with their intervals, and whether it is trusted."""

    @property
    def notes(self) -> Sequence[str]:
        """What is absent, and why; what is to be doubted."""

    def write_calibration(self, folder: Path, data_name: str) -> None:
        """Write everything to a folder, under the name of the data."""
