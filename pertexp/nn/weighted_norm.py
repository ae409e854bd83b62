"""Batch normalisation of rows that stand for several equal ones."""

from itertools import pairwise

import torch
from torch import Tensor, nn


@torch.no_grad()
def remember(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, count: Tensor | float) -> None:
    """Move the running statistics of `norm` as PyTorch does: towards the mean and the unbiased variance.

    Parameters
    ----------
    mean, variance
        `[h]` statistics of the batch, the variance biased.
    count
        Number of rows that the batch stands for; the unbiased variance is the biased one × count / (count − 1).
    """
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    count = torch.as_tensor(count, dtype=variance.dtype, device=variance.device)
    unbiased = variance * (count / (count - 1).clamp_min(1))
    step = 0.1 if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), step)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), step)


class WeightedBatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` over rows with multiplicities.

    A row of weight w counts as w equal rows: outputs, gradients and running statistics are those of `nn.BatchNorm1d`
    on the expanded batch, at the cost of the distinct rows. In evaluation the weights play no part.
    """

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise `x [..., h]`; `weight [...]` is ≥ 0 and need not sum to one."""
        mean, variance = self.statistics(x, weight)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (x - mean) * scale + self.bias

    def statistics(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance `[h]` to normalise by: of the batch in training, else the running ones."""
        if not self.training:
            assert self.running_mean is not None and self.running_var is not None  # noqa: S101, PT018
            return self.running_mean, self.running_var
        rows, count = x.reshape(-1, x.shape[-1]), weight.sum()
        share = (weight / count).reshape(-1, 1)
        mean = (share * rows).sum(dim=0)
        variance = (share * (rows - mean).square()).sum(dim=0)
        remember(self, mean.detach(), variance.detach(), count)
        return mean, variance


class Perceptron(nn.Module):
    """Linear → batch norm → ReLU for every pair of widths, without the last ReLU: the MLP of GEARS.

    The last operation is a batch norm, so the bias of every linear layer has a gradient of zero. It is kept because
    the released weights hold it.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for left, right in pairwise(widths):
            layers += [nn.Linear(left, right), WeightedBatchNorm(right), nn.ReLU()]
        self.network = nn.ModuleList(layers[:-1])

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """`x [..., widths[0]]` with multiplicities `weight [...]` → `[..., widths[-1]]`."""
        for layer in self.network:
            x = layer(x, weight) if isinstance(layer, WeightedBatchNorm) else layer(x)
        return x
