"""The score of a model and of baselines over the number of training perturbations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pertexp.evaluation.comparison import ScoredRows, best_baseline, compare
from pertexp.evaluation.results.run import N_TRAIN
from pertexp.evaluation.results.tables import LabelledSetting, ResultsTable, ResultValue
from pertexp.evaluation.roles import REPLICATE
from pertexp.runs.schema import Comparison

Scored = LabelledSetting[ScoredRows]
APART = 0.75  # 17 perturbations compared with 16 would say nothing of what more of them are worth


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """Scores at one number of training perturbations.

    Attributes
    ----------
    trained
        Training perturbations of the folds, each number once, ascending: folds may differ by a few.
    values
        By name of the row, on the metric of the curve.
    """

    trained: tuple[int, ...]
    values: dict[str, ResultValue]

    @property
    def size(self) -> float:
        """Half-way between the fewest and the most of any fold."""
        return (self.trained[0] + self.trained[-1]) / 2


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """A model, and baselines, over the number of training perturbations.

    Attributes
    ----------
    label, model
        What else sets its settings apart, and the name of its row in the points.
    metric
        The primary metric of the table.
    points
        From few training perturbations to many.
    baselines
        Those that are the best one at some number.
    smaller
        The number that the largest is compared with: the largest of at most three quarters of it, else the smallest.
    growth
        That comparison, paired over units.
    verdict
        The largest number compared with its best baseline; None without one.
    """

    label: str
    model: str
    metric: str
    points: tuple[CurvePoint, ...]
    baselines: tuple[str, ...]
    smaller: CurvePoint
    growth: Comparison
    verdict: Comparison | None

    @property
    def comparisons(self) -> list[Comparison]:
        """All that are there."""
        return [self.growth, *([] if self.verdict is None else [self.verdict])]

    @property
    def replicate(self) -> float | None:
        """Mean of the replicate; None where it was not scored."""
        found = self.points[-1].values.get(REPLICATE)
        return None if found is None else found.mean


def learning_curves(table: ResultsTable[ScoredRows]) -> tuple[LearningCurve, ...]:
    """Return a curve for each choice of what else was swept; empty where `data.split.n_train` was not."""
    if N_TRAIN not in table.swept:
        return ()
    by_rest: dict[object, dict[tuple[int, ...], Scored]] = {}
    for one in sorted(table.settings, key=lambda one: one.setting.limit):
        if one.setting.trained:
            by_rest.setdefault(_rest(one), {})[one.setting.trained] = one
    return tuple(_curve(table, list(found.values())) for found in by_rest.values() if len(found) > 1)


def _rest(one: Scored) -> tuple[str, ...]:
    words = (
        f"{key}={value}" if value else key for key, value in one.overrides.items() if key not in (N_TRAIN, "model")
    )
    return one.setting.model, *words


def _curve(table: ResultsTable[ScoredRows], ascending: Sequence[Scored]) -> LearningCurve:
    points = [_point(one, table.primary) for one in ascending]
    last = ascending[-1]
    before = max((at for at, one in enumerate(points) if one.size <= APART * points[-1].size), default=0)
    (growth,) = table.compared(ascending[before], [last])
    best = [best_baseline(one.scores, one.roles, table.primary) for one in ascending if one.roles.baselines]
    return LearningCurve(
        " ".join(_rest(last)),
        last.setting.model,
        table.primary,
        tuple(points),
        tuple(dict.fromkeys(best)),
        points[before],
        growth,
        _verdict(last, table.primary),
    )


def _point(one: Scored, metric: str) -> CurvePoint:
    return CurvePoint(one.setting.trained, {row.model: row.values[metric] for row in one.rows if metric in row.values})


def _verdict(one: Scored, metric: str) -> Comparison | None:
    if not one.roles.baselines:
        return None
    best = best_baseline(one.scores, one.roles, metric)
    return replace(compare(one.scores, one.setting.model, best, metric), model=one.label)
