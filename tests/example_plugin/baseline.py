"""A baseline of screens."""

from typing import Self

import numpy as np

from pertexp.data.screens.design import TrainingProfiles
from pertexp.data.screens.profiles import Units


class MedianEffect:
    """Every perturbation has the median effect of the training units."""

    def fit(self, training: TrainingProfiles) -> Self:
        """Take the median, gene by gene."""
        self._control, self._effect = training.control, np.median(training.effects, axis=0)
        return self

    def predict(self, units: Units) -> np.ndarray:
        """`[U, G]` control plus median effect."""
        return self._control[units.context] + self._effect
