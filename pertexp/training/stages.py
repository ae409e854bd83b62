"""Training in stages: parts of a model are frozen in some epochs and trained in others."""

import logging
from collections.abc import Iterator
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning, EarlyStopping
from torch import nn
from torch.optim import Optimizer

from pertexp.config.errors import MismatchError, RequestError, nearest
from pertexp.config.validate import check_type
from pertexp.training.checkpoints import KeepBest
from pertexp.training.from_epoch import ends_before
from pertexp.training.plan import Part, Plan, Staged

log = logging.getLogger(__name__)

COUNTED = {"best": KeepBest, "early_stopping": EarlyStopping}  # by their names below `callbacks`


class Stages(BaseFinetuning):
    """Callback that freezes and trains the parts of a model by a plan, and tells the model which stage and epoch begin.

    The optimizer holds all parameters from the start; a frozen one has no gradient, so the optimizer neither moves it
    nor changes its moments. The stage follows from the epoch alone: a run that is resumed goes on in the right one.

    A frozen part keeps its weights, and the running statistics of its batch normalisation, which then normalises by
    the batch in training and by those statistics in evaluation; dropout stays as it is. Other buffers are the model's
    own concern: it is told which stage begins. A parameter that the model itself brings frozen is never trained.

    Parameters
    ----------
    plan
        The stages.
    start
        Folder of the run whose weights the model begins from, loaded by whoever builds the model; None: no run.
    """

    def __init__(self, plan: Plan, start: str | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.start = start
        self._fixed: set[nn.Parameter] = set()

    @classmethod
    def from_config(cls, plan: dict[str, Any], **others: Any) -> "Stages":
        """Build it from `stages.plan` and `stages.from`; `from` is a keyword of Python and cannot name a parameter."""
        for name in others:
            if name != "from":
                raise RequestError(f"stages.{name} is not an option; {nearest(name, ('from', 'plan'))}")
        start = others.get("from")
        check_type(str | None, start, "stages.from")
        return cls(Plan.from_config(plan), start)

    def require(self, model: nn.Module, trainer: Trainer) -> None:
        """Refuse a plan that the model, or the length of training, does not fit.

        Raises
        ------
        MismatchError
            Where the plan names parts that the model does not have, a stage trains nothing, or the model has no parts.
        RequestError
            Where training goes on after the last stage.
        """
        self._require_parts(model)
        length, limit = self.plan.length, trainer.max_epochs
        if length is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if limit is None or limit < 0 or limit > length:
            last = list(self.plan.stages)[-1]
            raise RequestError(
                f"the stages of stages.plan last {length} epochs, and trainer.max_epochs={limit}: type "
                f"trainer.max_epochs={length}, or stages.plan.{last}.epochs=null for a last stage without an end."
            )

    def _require_parts(self, model: nn.Module) -> None:
        if not isinstance(model, Staged):
            self._require_no_names(model)
            return
        parts = model.parts()
        _require_partition(model, parts)
        for part, option in self.plan.named():
            if part not in parts:
                raise MismatchError(
                    f"{option} names {part}, which {type(model).__name__} does not have; its parts are "
                    f"{', '.join(parts)}."
                )
        for name in self.plan.begins:
            trained = [part for part in parts if self.plan.stages[name].trains(part)]
            if not any(parameter.requires_grad for part in trained for parameter in parameters_of(parts[part])):
                raise MismatchError(
                    f"stages.plan.{name} trains no parameter of {type(model).__name__}: type "
                    f"stages.plan.{name}.epochs=0 to skip it, or stages.plan.{name}.train=all "
                    f"stages.plan.{name}.freeze=[]."
                )

    def _require_no_names(self, model: nn.Module) -> None:
        for part, option in self.plan.named():
            raise MismatchError(
                f"{option} names {part}, but {type(model).__name__} has no parts to train in stages: type stages=one."
            )

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Remember what the model itself holds fixed; freeze nothing so far.

        Distributed training takes up the parameters that have a gradient when it begins, and no others later.
        """
        self._require_parts(pl_module)
        self._fixed = {parameter for parameter in pl_module.parameters() if not parameter.requires_grad}

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:  # noqa: ARG002
        """Bring the model into the stage of an epoch."""
        self._begin_epoch(pl_module, epoch)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the model into its stage where a run is resumed within an epoch, whose start it does not see."""
        self._begin_epoch(pl_module, trainer.current_epoch)

    def _begin_epoch(self, model: nn.Module, epoch: int) -> None:
        if not isinstance(model, Staged):
            return
        parts, (name, _) = model.parts(), self.plan.at(epoch)
        for part, members in parts.items():
            self._set(members, trained=self.plan.stages[name].trains(part))
        model.begin_epoch(self.plan.describe(epoch, parts))

    def _set(self, part: Part, *, trained: bool) -> None:
        for module in (one for one in _members(part) if isinstance(one, nn.Module)):
            if trained:
                self.make_trainable(module)
            else:
                self.freeze(module, train_bn=False)
        for parameter in parameters_of(part):  # Lightning's functions miss those that a container holds itself
            parameter.requires_grad_(trained and parameter not in self._fixed)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of stages that never begin, and of epochs that count before all parts are trained."""
        super().on_fit_start(trainer, pl_module)
        if isinstance(pl_module, Staged):
            for message in self._warnings(trainer, pl_module):
                log.warning(message)

    def _warnings(self, trainer: Trainer, model: Staged) -> list[str]:
        first_trained = self.plan.first_trained(model.parts())
        missed = {name: first for name, first in self.plan.begins.items() if ends_before(trainer, first)}
        if missed:
            name, first = next(iter(missed.items()))
            without = [part for part, epoch in first_trained.items() if epoch >= first]
            score = f", and the score is that of a model without trained {', '.join(without)}" if without else ""
            return [
                f"the stage {name} begins at epoch {first}, and trainer.max_epochs={trainer.max_epochs}: training ends "
                f"before it{score}; train longer, or type fewer epochs for the stages before it "
                f"({self._lengths(before=name)})."
            ]
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        return [
            self._early(f"callbacks.{name}", callback, first_trained)
            for callback in callbacks
            for name, kind in COUNTED.items()
            if isinstance(callback, kind) and _first_epoch(callback) < max(first_trained.values())
        ]

    def _early(self, name: str, callback: Callback, first_trained: dict[str, int]) -> str:
        late = [part for part, first in first_trained.items() if first > _first_epoch(callback)]
        begins = max(first_trained.values())
        whole = not hasattr(callback, "first_epoch")
        found = f"{name} counts every epoch" if whole else f"{name}.first_epoch={_first_epoch(callback)}"
        advice = f"callbacks=from_epoch {name}.first_epoch={begins}" if whole else f"{name}.first_epoch={begins}"
        stage, _ = self.plan.at(begins)
        return (
            f"{found}, and {self._lengths(before=stage)}: an epoch counts in which {', '.join(late)} has not been "
            f"trained yet; type {advice} or more."
        )

    def _lengths(self, before: str) -> str:
        """Return the epochs of the stages before one, as they are typed."""
        earlier = list(self.plan.begins)[: list(self.plan.begins).index(before)]
        return " ".join(f"stages.plan.{name}.epochs={self.plan.stages[name].epochs}" for name in earlier)


def warn_without_stages(model: object, stages: Stages) -> None:
    """Say where a model that begins anew has parts to train in stages, and no stage of its plan leaves one out."""
    if isinstance(model, Staged) and stages.start is None and not stages.plan.freezes:
        log.warning(
            "%s has parts to train in stages (%s), and stages.plan trains all of them from the first epoch on: type "
            "stages=curriculum or stages=two_stage, unless that is meant.",
            type(model).__name__,
            ", ".join(model.parts()),
        )


def _first_epoch(callback: Callback) -> int:
    return getattr(callback, "first_epoch", 0)


def _members(part: Part) -> list[nn.Module | nn.Parameter]:
    return [part] if isinstance(part, nn.Module) else list(part)


def parameters_of(part: Part) -> Iterator[nn.Parameter]:
    """Yield every parameter of a part."""
    for member in _members(part):
        yield from member.parameters() if isinstance(member, nn.Module) else (member,)


def _require_partition(model: nn.Module, parts: Any) -> None:
    held = [parameter for part in parts.values() for parameter in parameters_of(part)]
    for name, parameter in model.named_parameters():
        times = sum(one is parameter for one in held)
        if times != 1:
            raise MismatchError(
                f"{type(model).__name__} has the parameter {name} in {times} of its parts ({', '.join(parts)}): "
                "expected one; correct parts() of the model."
            )
