"""Gradient reversal (Ganin & Lempitsky 2015): the identity forward; backward, gradients are multiplied by −strength."""

from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def gradient_reversal(x: Tensor, strength: float) -> Tensor:
    """Return x unchanged; in the backward pass multiply its gradient by −strength.

    Parameters
    ----------
    x
        Of any shape.
    strength
        ≥ 0; with 0 no gradient passes.
    """
    same: Tensor = _Reversal.apply(x, strength)  # type: ignore[no-untyped-call]
    return same
