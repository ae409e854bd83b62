"""Baselines of impacts: non-negative scores of genes, larger where a perturbation moves a gene more."""

from typing import ClassVar, Self

import numpy as np

from pertexp.data.screens.design import TrainingProfiles
from pertexp.data.screens.profiles import Units
from pertexp.metrics.core import effect_of
from pertexp.metrics.output import Impact, Output
from pertexp.models.protocols import ScreenBaseline, notes_of


class MeanImpact:
    """Every perturbation moves a gene as much as the training perturbations do on average, whatever the direction.

    The mean of |effect| is over the unit's own context where it holds training units, else over all contexts, so all
    perturbations of a context rank genes alike.
    """

    predicts: ClassVar[Output] = Impact()

    def fit(self, training: TrainingProfiles) -> Self:
        """Average the size of effects by context."""
        sizes, context = np.abs(training.effects), training.units.context
        own = [sizes[context == c] for c in range(training.control.shape[0])]
        self._mean = np.stack([(rows if len(rows) else sizes).mean(axis=0) for rows in own])
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` mean sizes of effects."""
        impact: np.ndarray = self._mean[units.context]
        return impact


class AbsoluteEffect:
    """The size of the effect that a baseline of profiles predicts: |profile − control|.

    Parameters
    ----------
    of
        The baseline of profiles.
    """

    predicts: ClassVar[Output] = Impact()

    def __init__(self, of: ScreenBaseline) -> None:
        self._of = of

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the baseline of profiles."""
        return notes_of(self._of)

    def fit(self, training: TrainingProfiles) -> Self:
        """Fit the baseline of profiles, and keep the control profiles."""
        self._of.fit(training)
        self._control = training.control
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` sizes of predicted effects."""
        impact: np.ndarray = np.abs(effect_of(self._of.predict(units), self._control[units.context]))
        return impact
