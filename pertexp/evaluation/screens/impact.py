"""Score a model that predicts which genes a perturbation moves: the same units for every ranking."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pertexp.config.errors import DataError
from pertexp.data.screens.datamodule import ScreenData
from pertexp.evaluation.roles import REPLICATE, TRUTH
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.evaluation.screens.families import Family, ImpactRankings
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.metrics.core import effect_of
from pertexp.metrics.output import OutputName
from pertexp.models.baselines.impacts import AbsoluteEffect, MeanImpact
from pertexp.models.protocols import ScreenBaseline

RANKED = "impacts are scores without a scale, so ranks alone are compared: the scale is that of the observed effects"


class ImpactFrame(EvaluationFrame):
    """Predicted impacts and the truth, whose tables are profiles.

    Raises
    ------
    DataError
        Beside what `EvaluationFrame` refuses: an impact that is negative.
    """

    predicts: ClassVar[OutputName] = "impact"
    same_scale: ClassVar[bool] = False

    def effects(self, name: str, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the size of the observed effect, and the predicted impact, of one unit: `[G]` each."""
        return np.abs(self.truth[row] - self.reference[row]), self.predictions[name][row]

    def _as_predicted(self, profile: np.ndarray) -> np.ndarray:
        impact: np.ndarray = np.abs(effect_of(profile, self.control))
        return impact

    def _check_tables(self) -> None:
        for name, table in self.predictions.items():
            if table.shape == self.truth.shape:
                require_impacts(table, self.perturbation, self.genes, f"{name} predicts")
        super()._check_tables()


def require_impacts(values: np.ndarray, perturbations: tuple[str, ...], genes: tuple[str, ...], whose: str) -> None:
    """Refuse impacts `[U, G]` that are negative or no finite numbers.

    Raises
    ------
    DataError
        Naming the first of them; `whose` is the beginning of the message, `model predicts`.
    """
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        row, gene = np.argwhere(wrong)[0]
        raise DataError(
            f"{whose} an impact of {values[row, gene]:.4g} of {perturbations[row]} on {genes[gene]} "
            f"({int(wrong.sum())} such values): expected finite scores of 0 or more, larger where a gene is moved "
            "more. Take the absolute value of signed effects, or the softplus of a free score."
        )


@dataclass(frozen=True)
class ImpactEvaluation(ScreenEvaluation):
    """Scores of rankings of genes on held-out perturbations.

    Attributes
    ----------
    baselines
        Of impacts, by name; a baseline of profiles becomes one in `AbsoluteEffect`.
    """

    scores_output: ClassVar[OutputName] = "impact"
    frame_type: ClassVar[type[EvaluationFrame]] = ImpactFrame
    negatives: ClassVar[dict[str, Callable[[], ScreenBaseline]]] = {"mean_impact": MeanImpact}
    wrap: ClassVar[str] = (
        ", or name it as `of` of an entry with _target_: pertexp.models.baselines.impacts.AbsoluteEffect, which takes "
        "|profile − control| for an impact."
    )

    families: dict[str, Family] = field(default_factory=lambda: {"impact": ImpactRankings()})

    def require_model(self, data: ScreenData, model: Any, name: str) -> None:
        """Refuse nothing: impacts have no scale."""

    @property
    def notes(self) -> tuple[str, ...]:
        """That ranks are compared, which rows are made of profiles, and what baselines say of theirs."""
        made = [name for name, baseline in self.baselines.items() if isinstance(baseline, AbsoluteEffect)]
        ranked = f"ranked by |predicted profile − control|: {', '.join([*made, TRUTH, REPLICATE])}"
        return RANKED, ranked, *super().notes
