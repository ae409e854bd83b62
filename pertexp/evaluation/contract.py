"""What a run asks of whatever scores its model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Report(Protocol):
    """What a run has to say."""

    @property
    def value(self) -> float:
        """Mean of the model on the primary metric."""

    def means(self) -> dict[str, float]:
        """The model's mean on every metric that applies."""

    def write(self, folder: Path) -> None:
        """Write what was scored and the scores; metrics.json last."""

    def show(self, console: "Console", title: str) -> None:
        """Print the table and the verdict."""


class Evaluation(Protocol):
    """What scores a trained model on the data of its run."""

    def require(self, data: Any) -> None:
        """Refuse, before anything is trained, data that it cannot score."""

    def __call__(self, data: Any, model: Any, name: str) -> Report:
        """Score the model called `name` beside all baselines."""
