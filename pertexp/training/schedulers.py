"""Learning-rate schedules: what the group `scheduler` builds, and how a model hands one to Lightning."""

import math
from collections.abc import Callable
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, StepLR

from pertexp.config.errors import RequestError

Interval = Literal["epoch", "step"]
Schedule = dict[str, Any]  # an `lr_scheduler` dictionary of Lightning
Scheduler = Callable[[Optimizer], Schedule | None]


def configured(optimizer: Optimizer, scheduler: Scheduler) -> Any:
    """Return what `configure_optimizers` returns: the optimizer alone where its learning rate is constant.

    Learning rates that differ between parameter groups have to be set before: a schedule multiplies each of them.
    """
    schedule = scheduler(optimizer)
    return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}


def constant(optimizer: Optimizer) -> None:
    """Leave the learning rate as it is, without any scheduler object."""


def step(optimizer: Optimizer, *, gamma: float, step_size: int, interval: Interval) -> Schedule:
    """Multiply the learning rate by `gamma` after every `step_size` intervals.

    Parameters
    ----------
    optimizer
        Whose learning rate is scheduled.
    gamma
        Factor above 0, up to 1.
    step_size
        Number of epochs, or of optimizer steps, from one multiplication to the next.
    interval
        Whether `step_size` counts epochs or optimizer steps.

    Raises
    ------
    RequestError
        Where a value is out of its range.
    """
    if not 0 < gamma <= 1:
        raise RequestError(f"scheduler.gamma={gamma}: expected a factor above 0, up to 1 for a constant learning rate.")
    _require_at_least("step_size", step_size, 1)
    return _lightning(StepLR(optimizer, step_size=step_size, gamma=gamma), interval)


def cosine(optimizer: Optimizer, *, duration: int | None, floor: float, interval: Interval) -> Schedule:
    """Decay the learning rate along half a cosine to a floor, and leave it there (Loshchilov and Hutter 2017).

    After t intervals it is lr · (floor + (1 − floor) · (1 + cos(π t / duration)) / 2).

    Parameters
    ----------
    optimizer
        Whose learning rate is scheduled.
    duration
        Number of intervals until the floor is reached.
    floor
        Share of the initial learning rate, from 0 to 1.
    interval
        Whether `duration` counts epochs or optimizer steps.

    Raises
    ------
    RequestError
        Where a value is out of its range, as `duration` is where trainer.max_epochs sets no limit.
    """
    if duration is None or duration < 0:
        raise RequestError(
            f"scheduler.duration={'null' if duration is None else duration}: the cosine needs the number of intervals "
            "(by default trainer.max_epochs) in which it reaches its floor: type trainer.max_epochs=... or "
            "scheduler.duration=..."
        )
    _require_share("floor", floor)
    return _lightning(LambdaLR(optimizer, lambda t: _half_cosine(t, duration, floor)), interval)


def warm_up(
    optimizer: Optimizer, *, steps: int, start: float, decay_steps: int | None, floor: float, interval: Interval
) -> Schedule:
    """Raise the learning rate linearly over the first intervals; then keep it, or let it decay along half a cosine.

    After t intervals it is lr · (start + (1 − start) · t / steps) until t = steps.

    Parameters
    ----------
    optimizer
        Whose learning rate is scheduled.
    steps
        Number of intervals until the full learning rate is reached.
    start
        Share of the learning rate at the first interval, from 0 to 1.
    decay_steps
        Number of further intervals in which it decays to the floor; None keeps it constant.
    floor
        Share of the learning rate, from 0 to 1, at which the decay ends.
    interval
        Whether `steps` and `decay_steps` count epochs or optimizer steps.

    Raises
    ------
    RequestError
        Where a value is out of its range.
    """
    _require_at_least("steps", steps, 1)
    _require_share("start", start)
    _require_share("floor", floor)
    if decay_steps is not None:
        _require_at_least("decay_steps", decay_steps, 1)

    def factor(t: int) -> float:
        if t < steps:
            return start + (1 - start) * t / steps
        return 1.0 if decay_steps is None else _half_cosine(t - steps, decay_steps, floor)

    return _lightning(LambdaLR(optimizer, factor), interval)


def _half_cosine(t: int, duration: int, floor: float) -> float:
    """From 1 at t = 0 to `floor` from t = `duration` on."""
    if t >= duration > 0:
        return floor
    return floor + (1 - floor) * (1 + math.cos(math.pi * t / max(duration, 1))) / 2


def _lightning(scheduler: LRScheduler, interval: Interval) -> Schedule:
    return {"scheduler": scheduler, "interval": interval}


def _require_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise RequestError(f"scheduler.{name}={value}: expected at least {least}.")


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise RequestError(f"scheduler.{name}={value}: expected a share of the learning rate, from 0 to 1.")
