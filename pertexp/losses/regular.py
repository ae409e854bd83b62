"""Sparsity and prototype penalties."""

from typing import Literal

import torch
from torch import Tensor, nn

from pertexp.config.errors import RequestError

NORMS = {"l1": torch.abs, "l2": torch.square}


def sparsity(z: Tensor, norm: Literal["l1", "l2"] = "l1") -> Tensor:
    """Return the mean of |z| (`l1`) or z² (`l2`) over samples and features of `z [n, d]`, a scalar.

    A mean, not the sum ‖z‖: the sum grows with the batch and the width, and its weight would have to follow them.
    """
    if norm not in NORMS:
        raise RequestError(f"norm={norm} of the sparsity: expected {' or '.join(NORMS)}.")
    return NORMS[norm](z).mean()


@torch.no_grad()
def nonzero_share(z: Tensor, tolerance: float = 1e-3) -> Tensor:
    """Count entries of `z [n, d]` with |z| > tolerance × its root mean square, as a share: ‖z‖₀ / d, a diagnostic.

    The tolerance is relative, because a penalty that only shrinks features makes none of them zero. 0 where all are.
    """
    return (z.abs() > tolerance * z.square().mean().sqrt()).to(z.dtype).mean()


class Prototypes(nn.Module):
    """A running mean of the features of each line, p ← μ p + (1 − μ) × the mean of a support set.

    Parameters
    ----------
    n_lines, width
        Numbers of lines and of features.
    momentum
        μ in [0, 1).

    Attributes
    ----------
    prototype
        `[n_lines, width]`, a buffer.
    seen
        `[n_lines]` true where there has been an update, a buffer. The first one sets the prototype.
    """

    prototype: Tensor
    seen: Tensor

    def __init__(self, n_lines: int, width: int, momentum: float = 0.9) -> None:
        if not 0 <= momentum < 1:
            raise RequestError(f"momentum={momentum} of the prototypes: expected a number in [0, 1).")
        super().__init__()
        self.momentum = momentum
        self.register_buffer("prototype", torch.zeros(n_lines, width))
        self.register_buffer("seen", torch.zeros(n_lines, dtype=torch.bool))

    @torch.no_grad()
    def update(self, line: Tensor, mean: Tensor) -> None:
        """Move the prototypes of `line [k]`, each named once, towards the support means `mean [k, d]`."""
        mean = mean.detach().to(self.prototype)
        moved = torch.lerp(mean, self.prototype[line], self.momentum)
        self.prototype[line] = torch.where(self.seen[line, None], moved, mean)
        self.seen[line] = True

    def forward(self, e: Tensor, line: Tensor) -> Tensor:
        """Return the mean over samples and features of (e − p_c)², for `e [n, d]` of `line [n]`; a scalar.

        Samples of a line without a prototype are left out; where all are, the result is 0 without a gradient.
        """
        known = self.seen[line]
        if not known.any():
            return e.new_zeros(())
        return (e[known] - self.prototype[line[known]]).square().mean()
