"""Definition of a metric: one row of the table of its family."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pertexp.metrics.output import ANY_SCALE, SPACES, OutputName, ProfileScale

Level = Literal["headline", "shown", "detail"]


@dataclass(frozen=True)
class Metric:
    """A metric: its function, its bounds, its space, and what it needs.

    Attributes
    ----------
    name
        Unique over all families; those of a family other than `core` begin with its name and a slash.
    function
        From the family's view of one prediction and the truth to one value a unit `[U]`, NaN where the truth leaves
        nothing to score. The plain mean over units is the score.
    best, worst
        Perfect and worst value; an infinite worst where there is none.
    space
        What is compared: profiles, effects, differential expression, ...; a key of `SPACES`.
    needs_de
        Whether differential expression has to be tested first: without cells to test it is not applicable.
    negative
        The prediction that knows nothing of the single perturbation, and so marks zero when values are calibrated.
    missing
        Why a value may be missing.
    level
        `headline`: a sentence of the verdict is about it; `shown`: a column on the console; `detail`: on the page and
        in the files alone.
    clamp
        Ends of its calibrated values, as the family's own rules set them.
    scales
        Scales of profiles that it can be computed on, of prediction and truth alike.
    """

    name: str
    function: Callable[[Any], np.ndarray]
    best: float
    worst: float
    space: str
    needs_de: bool = False
    negative: str = "train_mean"
    missing: str = ""
    level: Level = "shown"
    clamp: tuple[float, float] = (-np.inf, np.inf)
    scales: frozenset[ProfileScale] = ANY_SCALE

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"the metric {self.name} compares {self.space!r}, which is none of {', '.join(SPACES)}.")

    @property
    def output(self) -> OutputName:
        """What a model has to predict for it."""
        return SPACES[self.space]

    @property
    def meaning(self) -> tuple[object, ...]:
        """All that its numbers are to be read by: what two metrics of one name have to agree on."""
        return self.best, self.worst, self.space, self.needs_de, self.negative, self.clamp, self.scales

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return self.best > self.worst

    @property
    def family(self) -> str:
        """Name of the family that the row belongs to."""
        return self.name.rpartition("/")[0] or "core"

    def better(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """1 where a is the better value, ½ where they tie, 0 where b is; NaN where either is missing."""
        gap = (a - b) if self.higher_is_better else (b - a)
        return np.where(np.isnan(gap), np.nan, (np.sign(gap) + 1) / 2)


def table(*rows: Metric, scales: frozenset[ProfileScale] = ANY_SCALE) -> dict[str, Metric]:
    """Return the rows of a family by name, in order; all can be computed on these scales of profiles alone."""
    return {row.name: replace(row, scales=row.scales & scales) for row in rows}
