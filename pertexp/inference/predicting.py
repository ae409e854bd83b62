"""Predictions with the trained models of a task: options, and where the result is written."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_type_hints

from pertexp.config.errors import RequestError
from pertexp.config.validate import typed

SHARED = frozenset({"seed"})
OptionsT = TypeVar("OptionsT")


class Answer(Protocol):
    """Predictions, ready to be written."""

    @property
    def said(self) -> tuple[str, ...]:
        """What to tell whoever asked, line by line."""

    def write(self, path: Path, ending: str) -> None:
        """Write them to a file as its final name will end."""


@dataclass(frozen=True)
class Predicting(Generic[OptionsT]):
    """How models of a task predict.

    Attributes
    ----------
    subject
        What the models were trained on.
    options
        What can be asked of them: a dataclass, whose fields are typed options; one that is a dataclass again holds
        those below it, and `seed` is shared by all tasks. Their defaults are in `conf/predict/<task>.yaml`.
    endings
        Of the files that they write; the first where none is named.
    answer
        Predict, with these options.
    """

    subject: str
    options: type[OptionsT]
    endings: tuple[str, ...]
    answer: Callable[[Any, OptionsT], Answer]

    @property
    def names(self) -> frozenset[str]:
        """Options as they are typed; a name stands for all that lies below it."""
        return frozenset(_names(self.options)) - SHARED

    def asked(self, config: Mapping[str, Any]) -> OptionsT:
        """Read the options off a composed configuration, which may hold those of other tasks.

        Raises
        ------
        RequestError
            On a value of the wrong type.
        """
        return typed(self.options, _picked(self.options, config), "")

    def refuse_options_of(self, others: Iterable["Predicting[Any]"], words: Iterable[str]) -> None:
        """Refuse (RequestError) a typed override that is an option of other models alone."""
        of_others = {option for other in others for option in other.names} - self.names
        for word in words:
            name = word.lstrip("+~").partition("=")[0]
            if _below(name, of_others):
                raise RequestError(
                    f"{name} is not an option for a model of {self.subject}: remove it; in addition to ckpt, out "
                    f"and seed such a model takes {', '.join(sorted(self.names))}."
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


def _names(kind: type[Any]) -> Iterator[str]:
    """Yield the names of the fields of a dataclass; of one that holds a dataclass, the names below it."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        inner = hints[field.name]
        yield from (f"{field.name}.{each.name}" for each in fields(inner)) if is_dataclass(inner) else (field.name,)


def _picked(kind: type[Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the fields of a dataclass, and of those below it, as far as a configuration holds them."""
    hints: dict[str, Any] = get_type_hints(kind)
    held = {field.name: config[field.name] for field in fields(kind) if field.name in config}
    nested = {name for name in held if is_dataclass(hints[name])}
    return {name: _picked(hints[name], value) if name in nested else value for name, value in held.items()}
