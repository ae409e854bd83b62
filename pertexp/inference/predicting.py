"""What can be asked of a trained model of a task, and where the answer goes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pertexp.config.errors import RequestError


class Answer(Protocol):
    """Predictions, ready to be written."""

    @property
    def said(self) -> tuple[str, ...]:
        """What to tell whoever asked, line by line."""

    def write(self, path: Path, ending: str) -> None:
        """Write them to a file as its final name will end."""


@dataclass(frozen=True)
class Predicting:
    """How models of a task predict.

    Attributes
    ----------
    subject
        What the models were trained on.
    options
        What can be asked of them, as it is typed; a name stands for all that lies below it.
    endings
        Of the files that they write; the first where none is named.
    answer
        Predict, with the options as plain values.
    """

    subject: str
    options: frozenset[str]
    endings: tuple[str, ...]
    answer: Callable[[Any, Mapping[str, Any]], Answer]

    def refuse_options_of(self, others: Iterable["Predicting"], words: Iterable[str]) -> None:
        """Refuse (RequestError) a typed override that is an option of models of another task alone."""
        foreign = {option for other in others for option in other.options} - self.options
        for word in words:
            name = word.lstrip("+~").partition("=")[0]
            if _below(name, foreign):
                raise RequestError(
                    f"{name} is not an option for a model of {self.subject}: remove it; beside ckpt, out and seed such "
                    f"a model takes {', '.join(sorted(self.options))}."
                )

    def place(self, out: str | None, folder: Path) -> Path:
        """Where to write; RequestError on an ending that models of this task do not write."""
        path = folder / f"predictions{self.endings[0]}" if out is None else Path(out)
        if path.suffix not in self.endings:
            raise RequestError(
                f"out={path}: predictions of {self.subject} are a file of their own kind, so let the name end with "
                f"{' or '.join(self.endings)}."
            )
        return path


def _below(name: str, options: Iterable[str]) -> bool:
    return any(name == option or name.startswith(f"{option}.") for option in options)
