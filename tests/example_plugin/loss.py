"""A loss on profiles."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Huber:
    """Mean Huber loss: squared up to `delta`, linear beyond."""

    delta: float = 1.0

    def __call__(self, predicted: Tensor, observed: Tensor) -> Tensor:
        """Mean over units and genes of two `[U, G]` profiles."""
        return functional.huber_loss(predicted, observed, delta=self.delta)
