"""What can be asked of a trained model, by its kind, and where the answer goes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pertexp.errors import RequestError
from pertexp.inference import pairs, screens
from pertexp.inference.trained import Restored, Trained, TrainedPairs


class Answer(Protocol):
    """Predictions, ready to be written."""

    @property
    def said(self) -> tuple[str, ...]:
        """What to tell whoever asked, line by line."""

    def write(self, path: Path, ending: str) -> None:
        """Write them to a file as its final name will end."""


@dataclass(frozen=True)
class Kind:
    """A kind of trained model.

    Attributes
    ----------
    subject
        What its models were trained on.
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

    def refuse_foreign(self, words: Iterable[str]) -> None:
        """RequestError where a typed override is an option of the models of another kind alone."""
        for word in words:
            name = word.lstrip("+~").partition("=")[0]
            if _below(name, {option for kind in KINDS.values() for option in kind.options} - self.options):
                raise RequestError(
                    f"{name} is nothing to ask of a model of {self.subject}: remove it; beside ckpt, out and seed such "
                    f"a model takes {', '.join(sorted(self.options))}."
                )

    def place(self, out: str | None, folder: Path) -> Path:
        """Where to write; RequestError on an ending that is none of this kind."""
        path = folder / f"predictions{self.endings[0]}" if out is None else Path(out)
        if path.suffix not in self.endings:
            raise RequestError(
                f"out={path}: predictions of {self.subject} are a file of their own kind, so let the name end with "
                f"{' or '.join(self.endings)}."
            )
        return path


KINDS: dict[type[Restored], Kind] = {
    Trained: Kind("a screen", screens.OPTIONS, (".h5ad",), screens.answer),
    TrainedPairs: Kind("pairs", pairs.OPTIONS, tuple(pairs.WRITERS), pairs.answer),
}


def kind_of(trained: Restored) -> Kind:
    """What can be asked of this model."""
    return KINDS[type(trained)]


def _below(name: str, options: Iterable[str]) -> bool:
    return any(name == option or name.startswith(f"{option}.") for option in options)
