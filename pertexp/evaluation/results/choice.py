"""Choosing among settings on validation, fold by fold, before test units are looked at."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pertexp.config.errors import RequestError, nearest
from pertexp.evaluation.results.finding import Refused
from pertexp.evaluation.results.run import REPEATS, SEEDS, Run
from pertexp.metrics.registry import METRICS
from pertexp.runs.reading import at

LOSS = "val/loss"
_WHERE = "hydra.callbacks.sweep_table"


@dataclass(frozen=True)
class Choice:
    """Which swept keys are chosen, and by which validation metric.

    Attributes
    ----------
    metric
        Validation metric of the epoch that was kept, as it is logged: `val/auprc`.
    over
        Keys that were swept and are chosen over: `optimizer.lr`.
    """

    metric: str
    over: tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """The choice that was made in one fold.

    Attributes
    ----------
    where
        The fold, in words.
    values
        By key, the value with the best validation metric.
    metric, value
        That metric, and its mean over seeds.
    n_candidates
        How many values were tried.
    """

    where: str
    values: dict[str, str]
    metric: str
    value: float
    n_candidates: int


Group = tuple[list[Run], tuple[Chosen, ...]]


def chosen_runs(runs: Sequence[Run], choice: Choice) -> tuple[list[Group], list[Refused]]:
    """Within each remaining setting and each fold, keep the runs of the value with the best validation metric.

    Returns
    -------
    The runs of each remaining setting with what was chosen in its folds, and the runs that were not chosen.

    Raises
    ------
    RequestError
        Where a key was not swept, a run has no such metric, its direction is unknown, or it cannot be compared over
        what is chosen.
    """
    _require_swept(runs, choice)
    sign = 1.0 if _higher_is_better(runs, choice.metric) else -1.0
    groups: dict[str, dict[tuple[Any, ...], list[Run]]] = {}
    for run in runs:
        folds = groups.setdefault(_remaining(run, choice.over), {})
        folds.setdefault((run.split, run.results.tested), []).append(run)
    found: list[Group] = []
    refused: list[Refused] = []
    for folds in groups.values():
        kept: list[Run] = []
        chosen = []
        for members in folds.values():
            _require_comparable(members, choice)
            best, of_fold = _best(members, choice, sign)
            kept += best
            chosen.append(of_fold)
            refused += [_not_chosen(run, of_fold) for run in members if run not in best]
        found.append((kept, tuple(sorted(chosen, key=lambda one: one.where))))
    return found, refused


def _best(runs: Sequence[Run], choice: Choice, sign: float) -> tuple[list[Run], Chosen]:
    """Return runs of the value with the best mean over seeds, the first of those that tie."""
    by_value: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.seeds):
        by_value.setdefault(tuple(run.typed.get(key, "") for key in choice.over), []).append(run)
    means = {value: _mean(_metric(run, choice) for run in members) for value, members in by_value.items()}
    best = max(means, key=lambda value: sign * means[value])
    values = dict(zip(choice.over, best, strict=True))
    members = by_value[best]
    return members, Chosen(members[0].results.where, values, choice.metric, means[best], len(means))


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def _metric(run: Run, choice: Choice) -> float:
    value = run.metrics.validation.get(choice.metric, math.nan)
    if math.isnan(value):
        known = ", ".join(sorted(run.metrics.validation)) or "none, as without validation units"
        raise RequestError(
            f"{_WHERE}.choose={choice.metric}: {run.folder.name} has no such value of the epoch that it kept; "
            f"known: {known}."
        )
    return value


def _not_chosen(run: Run, chosen: Chosen) -> Refused:
    values = ", ".join(f"{key}={value}" for key, value in chosen.values.items())
    return Refused(run.folder, f"not chosen: {values} has the best {chosen.metric} ({chosen.value:.4g}) here")


def _remaining(run: Run, over: Sequence[str]) -> str:
    """Equal for runs that differ in folds, seeds and what is chosen over alone."""
    kept = {key: value for key, value in run.typed.items() if key not in (*REPEATS, *over)}
    return json.dumps([run.model, run.data_name, kept], sort_keys=True)


def _require_swept(runs: Sequence[Run], choice: Choice) -> None:
    keys = sorted({key for run in runs for key in run.typed})
    swept = [key for key in keys if len({run.typed.get(key) for run in runs}) > 1 and key not in REPEATS]
    for key in choice.over:
        if key in SEEDS or key in REPEATS:
            raise RequestError(f"{_WHERE}.over=[{key}]: folds are pooled and seeds averaged, not chosen.")
        if key not in swept:
            raise RequestError(f"{_WHERE}.over=[{key}]: {key} was not swept; {nearest(key, swept)}")


def _higher_is_better(runs: Sequence[Run], metric: str) -> bool:
    """Direction of a validation metric: of losses down, else that of the metric of this name, or of a callback."""
    bare = metric.partition("/")[2]
    if metric == LOSS:
        return False
    if bare in METRICS:
        return METRICS[bare].higher_is_better
    for callback in (at(runs[0].config, "callbacks") or {}).values():
        if isinstance(callback, dict) and callback.get("monitor") == metric and "mode" in callback:
            return bool(callback["mode"] == "max")
    known = sorted({name for run in runs for name in run.metrics.validation})
    raise RequestError(
        f"{_WHERE}.choose={metric}: whether higher is better is not known; "
        f"type one of {', '.join(known) or 'none: no run has a validation metric'}."
    )


def _require_comparable(runs: Sequence[Run], choice: Choice) -> None:
    """Refuse to choose between values of a metric that do not mean the same."""
    reason = None
    if len({run.data_key for run in runs}) > 1:
        reason = "the runs do not have the same data"
    elif choice.metric == LOSS and len({_loss_of(run) for run in runs}) > 1:
        reason = "the runs do not have the same model and loss, and losses of different kinds are on different scales"
    if reason is not None:
        raise RequestError(
            f"{_WHERE}.choose={choice.metric} cannot be compared over {', '.join(choice.over)}: {reason}; choose by "
            "another metric, or over other keys."
        )


def _loss_of(run: Run) -> str:
    target = at(run.config, "model", "_target_")
    return json.dumps([target, run.config.get("loss")], sort_keys=True, default=str)
