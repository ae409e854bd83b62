"""Choices of the group `model/link`: what an effect may become."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Bounded:
    """Effects between -bound and bound."""

    bound: float

    def __call__(self, effect: Tensor) -> Tensor:
        """Effects `[U, G]`, each on its own."""
        return self.bound * (effect / self.bound).tanh()


class Linear:
    """Effects as they are."""

    def __call__(self, effect: Tensor) -> Tensor:
        """Effects `[U, G]`."""
        return effect
