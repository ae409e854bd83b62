"""The plan of training in stages: which parts of a model are trained in which epochs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import Field
from torch import nn

from pertexp.config.errors import RequestError
from pertexp.config.validate import NO_OTHERS, typed

Part = nn.Module | Iterable[nn.Module | nn.Parameter]


@dataclass(frozen=True)
class StageEpoch:
    """An epoch of a stage, as a model is told of it.

    Attributes
    ----------
    stage
        Name of the stage.
    epoch
        Epochs since the stage began, from 0.
    active
        By part, epochs since the first stage that trains it began, from 0; a part that no stage has trained so far is
        absent. A part that is frozen again stays active.
    """

    stage: str
    epoch: int
    active: Mapping[str, int]


@runtime_checkable
class Staged(Protocol):
    """A model whose parts can be trained in stages."""

    def parts(self) -> Mapping[str, Part]:
        """Name the parts; every parameter of the model belongs to exactly one."""

    def begin_epoch(self, now: StageEpoch) -> None:
        """Learn which epoch of which stage begins; called more than once for an epoch where a run is resumed."""


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes
    ----------
    epochs
        Its length; 0: the stage is skipped; None: it lasts until training ends.
    train
        Names of the parts that are trained, or `all`.
    freeze
        Names of the parts that are not, in place of `train`, or as exceptions from `all`.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    epochs: Annotated[int, Field(ge=0)] | None = None
    train: list[str] | Literal["all"] = "all"
    freeze: list[str] = field(default_factory=list)

    def trains(self, part: str) -> bool:
        """Return whether the parameters of a part are trained."""
        return part not in self.freeze and (self.train == "all" or part in self.train)

    def named(self) -> dict[str, list[str]]:
        """Return the parts that each option names."""
        return {"train": [] if self.train == "all" else self.train, "freeze": self.freeze}


class Plan:
    """The stages of a training, in their order.

    Parameters
    ----------
    stages
        By name.

    Raises
    ------
    RequestError
        Where no stage lasts an epoch, one without an end is not the last, or one both trains and freezes a part.
    """

    def __init__(self, stages: Mapping[str, Stage]) -> None:
        self.stages = dict(stages)
        self._require_an_epoch()
        self._require_ends()
        for name, stage in self.stages.items():
            _require_no_contradiction(name, stage)
        self.begins = self._first_epochs()

    @classmethod
    def from_config(cls, plain: Mapping[str, Any]) -> "Plan":
        """Read plain values; RequestError names the key below `stages.plan` that does not fit."""
        return cls(typed(dict[str, Stage], dict(plain), "stages.plan"))

    @property
    def length(self) -> int | None:
        """Epochs of all stages; None where the last one has no end."""
        lengths = [stage.epochs for stage in self.stages.values()]
        return None if None in lengths else sum(epochs or 0 for epochs in lengths)

    @property
    def freezes(self) -> bool:
        """Whether a stage, also one that is skipped, leaves out a part."""
        return any(stage.freeze or stage.train != "all" for stage in self.stages.values())

    def named(self) -> list[tuple[str, str]]:
        """Return the parts that the plan names, each with the option that names it: `stages.plan.<stage>.<option>`."""
        return [
            (part, f"stages.plan.{name}.{option}")
            for name, stage in self.stages.items()
            for option, parts in stage.named().items()
            for part in parts
        ]

    def at(self, epoch: int) -> tuple[str, int]:
        """Name of the stage in an epoch, from 0, and the epochs since that stage began."""
        name = [name for name, first in self.begins.items() if first <= epoch][-1]
        return name, epoch - self.begins[name]

    def first_trained(self, parts: Iterable[str]) -> dict[str, int]:
        """By part, the first epoch in which it is trained; parts that never are, are absent."""
        firsts = {
            part: [first for name, first in self.begins.items() if self.stages[name].trains(part)] for part in parts
        }
        return {part: first[0] for part, first in firsts.items() if first}

    def describe(self, epoch: int, parts: Iterable[str]) -> StageEpoch:
        """Return what a model with these parts is told when an epoch begins."""
        since = {part: epoch - first for part, first in self.first_trained(parts).items()}
        return StageEpoch(*self.at(epoch), {part: epochs for part, epochs in since.items() if epochs >= 0})

    def _first_epochs(self) -> dict[str, int]:
        begins, first = {}, 0
        for name, stage in self.stages.items():
            if stage.epochs != 0:
                begins[name] = first
            first += stage.epochs or 0
        return begins

    def _require_an_epoch(self) -> None:
        if all(stage.epochs == 0 for stage in self.stages.values()):
            found = ", ".join(f"stages.plan.{name}.epochs=0" for name in self.stages) or "stages.plan is empty"
            raise RequestError(f"{found}: no stage is left to train in; give one of them epochs, or type stages=one.")

    def _require_ends(self) -> None:
        names = list(self.stages)
        for name, following in pairwise(names):
            if self.stages[name].epochs is None:
                raise RequestError(
                    f"stages.plan.{name}.epochs=null lasts until training ends, but {following} comes after it: type "
                    f"stages.plan.{name}.epochs=<number>; only the last stage may have null."
                )


def _require_no_contradiction(name: str, stage: Stage) -> None:
    for part in stage.freeze:
        if part in stage.named()["train"]:
            raise RequestError(
                f"stages.plan.{name} has {part} in train and in freeze: leave it out of one of them, as in "
                f"stages.plan.{name}.freeze=[]."
            )
