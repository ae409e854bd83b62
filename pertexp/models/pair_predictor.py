"""What every trained model of pairs can be asked for."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np

from pertexp.data.pairs.loader import Batch


@runtime_checkable
class PairPredictor(Protocol):
    """A model that was trained on pairs."""

    def predict(self, batches: Iterable[Batch]) -> np.ndarray:
        """P(y = 1) `[n]` of the pairs of all batches, in their order; `PairLoader` says what a batch holds."""
