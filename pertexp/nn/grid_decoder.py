"""The shared decoder of GEARS on the grid of genes × perturbation sets, block by block.

For gene g and row r (a perturbation set with multiplicity w_r)

    X_gr = ReLU(a_g + b_r)          z = ReLU(BN1(W1 X))          out_gr = w_g · BN2(W2 z) + c_g

with batch statistics over all (g, r), row r counted w_r times. Written plainly this keeps a dozen tensors of
genes × rows × width for the backward pass and runs at the speed of memory. Here

- the statistics of W1 X come from the second moments of X: mean W1 m, variance diag(W1 Cov(X) W1ᵀ), so that the first
  batch norm folds into W1 before the grid is visited;
- the second batch norm folds into the gene-specific weights w_g, and its gradient into a few sums;
- everything else is done in blocks of genes that stay in the cache, and worked out anew in the backward pass. Only
  W2 z `[G, R, h]` is kept.

Outputs and gradients are those of the plain composition to rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pertexp.nn.weighted_norm import Perceptron, WeightedBatchNorm, remember

ROWS_AT_ONCE = 6144  # (gene, row) pairs in a block: 3 MB of float32 at width 128


class DecoderLayers(NamedTuple):
    """Linear → BN → ReLU → Linear → BN, then gene-specific weights `[G, h]` and offsets `[G]`."""

    first: torch.nn.Linear
    first_norm: WeightedBatchNorm
    second: torch.nn.Linear
    second_norm: WeightedBatchNorm
    gene_weight: Tensor
    gene_offset: Tensor

    @classmethod
    def of(cls, shared: Perceptron, gene_weight: Tensor, gene_offset: Tensor) -> "DecoderLayers":
        """Return the layers of a perceptron of three widths, with gene-specific parameters."""
        first, first_norm, _, second, second_norm = shared.network
        return cls(first, first_norm, second, second_norm, gene_weight, gene_offset)  # type: ignore[arg-type]


def grid(genes: Tensor, rows: Tensor, variant: Tensor) -> Tensor:
    """X `[G, R, h]` = ReLU(a + b) for `genes [G, V, h]` and `rows [R, h]`; row r sees `variant[r]` of a gene."""
    own = genes if genes.shape[1] == 1 else genes[:, variant]
    return (own + rows).relu()


def decode(genes: Tensor, rows: Tensor, variant: Tensor, weight: Tensor, decoder: DecoderLayers) -> Tensor:
    """Return outputs `[R, G]` of the grid.

    Parameters
    ----------
    genes
        `[G, V, h]` gene side a, in V variants (one, unless cells differ in their gene side).
    rows
        `[R, h]` perturbation side b.
    variant
        `[R]` which variant of the genes a row sees.
    weight
        `[R]` multiplicities; in training they weigh the batch statistics.
    decoder
        The layers; in training the running statistics of their norms are moved.

    It works in the precision of its parameters, also where autocast lowers that of what is around it: sums over the
    grid are too long for half precision.
    """
    kind = decoder.gene_weight.dtype
    genes, rows, weight = genes.to(kind), rows.to(kind), weight.to(kind)
    with torch.autocast(genes.device.type, enabled=False):
        return _decode(genes, rows, variant, weight, decoder)


def _decode(genes: Tensor, rows: Tensor, variant: Tensor, weight: Tensor, decoder: DecoderLayers) -> Tensor:
    if not decoder.first_norm.training:
        return _decode_with_constants(genes, rows, variant, decoder)
    first, norm, second, second_norm, gene_weight, gene_offset = decoder
    out: Tensor
    out, *moments = _GridDecoder.apply(  # type: ignore[no-untyped-call]
        genes, rows, variant, weight,
        first.weight, first.bias, norm.weight, norm.bias,
        second.weight, second.bias, second_norm.weight, second_norm.bias,
        gene_weight, gene_offset, (norm.eps, second_norm.eps),
    )  # fmt: skip
    count = weight.sum() * genes.shape[0]
    remember(norm, moments[0] + first.bias.detach(), moments[1], count)
    remember(second_norm, moments[2] + second.bias.detach(), moments[3], count)
    return out


def _decode_with_constants(genes: Tensor, rows: Tensor, variant: Tensor, decoder: DecoderLayers) -> Tensor:
    """Decode in evaluation: both norms are constants, and all after z is one vector a gene."""
    first, norm, second, second_norm, gene_weight, gene_offset = decoder
    scale, shift = _constants(norm)
    weight, bias = first.weight * scale[:, None], first.bias * scale + shift
    scale, shift = _constants(second_norm)
    folded = ((gene_weight * scale) @ second.weight).unsqueeze(2)
    offset = gene_weight @ (second.bias * scale + shift) + gene_offset
    sides = _Sides(genes, rows, variant, rows)
    blocks = [slice(0, genes.shape[0])] if torch.is_grad_enabled() else sides.blocks()
    out = [
        torch.bmm(torch.addmm(bias, sides.grid(at), weight.T).relu_().view(-1, rows.shape[0], bias.numel()), folded[at])
        for at in blocks
    ]
    return torch.cat(out).squeeze(2).T + offset


def _constants(norm: WeightedBatchNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift of a norm in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101, PT018
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


@dataclass(frozen=True)
class _Folded:
    """What the first batch norm is on this batch.

    Attributes
    ----------
    mean, cov
        `[h]` and `[h, h]` of X over the grid.
    centre, inverse
        `[2h]` mean of W1 X (without bias) and 1 / √(variance + ε).
    variance
        `[2h]` of W1 X.
    weight, bias
        W1 and the bias with the norm folded in.
    """

    mean: Tensor
    cov: Tensor
    centre: Tensor
    variance: Tensor
    inverse: Tensor
    weight: Tensor
    bias: Tensor


class _Sides(NamedTuple):
    genes: Tensor
    rows: Tensor
    variant: Tensor
    share: Tensor  # w_r / (G Σ w): sums to one over the grid

    def blocks(self) -> Iterator[slice]:
        """Slices of genes whose grids fit in the cache; everything at once where there is none to fit in."""
        n_genes, n_rows = self.genes.shape[0], self.rows.shape[0]
        size = n_genes if self.genes.is_cuda else max(1, ROWS_AT_ONCE // n_rows)
        return (slice(start, min(start + size, n_genes)) for start in range(0, n_genes, size))

    def grid(self, at: slice) -> Tensor:
        """X of a block, flat `[g·R, h]`, genes slowest."""
        return grid(self.genes[at], self.rows, self.variant).flatten(0, 1)

    def shares(self, at: slice) -> Tensor:
        """Return the share of every pair of a block `[g·R, 1]`."""
        return self.share.repeat(at.stop - at.start).unsqueeze(1)


def _fold_first(sides: _Sides, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> _Folded:
    width = sides.rows.shape[1]
    mean, second = sides.rows.new_zeros(width), sides.rows.new_zeros(width, width)
    for at in sides.blocks():
        x = sides.grid(at)
        weighted = x * sides.shares(at)
        mean += weighted.sum(dim=0)
        second += weighted.T @ x
    cov = second - torch.outer(mean, mean)
    centre = weight @ mean
    variance = ((weight @ cov) * weight).sum(dim=1).clamp_min(0)
    inverse = torch.rsqrt(variance + eps)
    scale = gamma * inverse
    return _Folded(mean, cov, centre, variance, inverse, weight * scale[:, None], beta - centre * scale)


class _GridDecoder(torch.autograd.Function):
    """Forward in three passes over the grid, backward in two; see the module for the algebra."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        genes, rows, variant, weight, w1, _, gamma1, beta1, w2, _, gamma2, beta2, gene_weight, gene_offset, eps = inputs
        share = weight / (weight.sum() * genes.shape[0])
        sides = _Sides(genes, rows, variant, share)
        folded = _fold_first(sides, w1, gamma1, beta1, eps[0])
        y = genes.new_empty(genes.shape[0], rows.shape[0], w2.shape[0])
        mean = w2.new_zeros(w2.shape[0])
        for at in sides.blocks():
            z = torch.addmm(folded.bias, sides.grid(at), folded.weight.T).relu_()
            block = torch.mm(z, w2.T, out=y[at].view(-1, w2.shape[0]))
            mean += (share @ block.view(-1, rows.shape[0], w2.shape[0])).sum(dim=0)
        variance = torch.zeros_like(mean)
        for at in sides.blocks():
            variance += (share @ (y[at] - mean).square_()).sum(dim=0)
        inverse = torch.rsqrt(variance + eps[1])
        scale = gamma2 * inverse
        offset = gene_weight @ (beta2 - mean * scale) + gene_offset
        out = torch.bmm(y, (gene_weight * scale).unsqueeze(2)).squeeze(2).T + offset
        ctx.save_for_backward(genes, rows, variant, share, w1, gamma1, w2, gamma2, beta2, gene_weight, y, mean, inverse)
        ctx.folded = folded
        moments = (folded.centre, folded.variance, mean, variance)
        ctx.mark_non_differentiable(*moments)
        return (out, *moments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        genes, rows, variant, share, w1, gamma1, w2, gamma2, beta2, gene_weight, y, mean, inverse = ctx.saved_tensors
        sides, folded = _Sides(genes, rows, variant, share), ctx.folded
        d_out = grads[0].T.contiguous()
        d_offset = d_out.sum(dim=1)
        centred = torch.bmm(d_out.unsqueeze(1), y).squeeze(1) - d_offset[:, None] * mean
        d_gene_weight = gamma2 * inverse * centred + beta2 * d_offset[:, None]
        d_beta2 = d_offset @ gene_weight
        d_gamma2 = inverse * (gene_weight * centred).sum(dim=0)
        slope = gamma2 * inverse.square() * d_gamma2
        second = _SecondGradient(
            d_out, gene_weight * (gamma2 * inverse), slope, gamma2 * inverse * d_beta2 - mean * slope
        )
        visited = _visit(sides, folded, y, w2, second)
        d_gamma1 = folded.inverse * ((visited.cross * w1).sum(dim=1) - folded.centre * visited.d_beta)
        scale = gamma1 * folded.inverse
        d_w1 = scale[:, None] * (
            visited.cross
            - torch.outer(visited.d_beta, folded.mean)
            - (d_gamma1 * folded.inverse)[:, None] * (w1 @ folded.cov)
        )
        curve = gamma1 * folded.inverse.square() * d_gamma1
        linear = w1.T @ (curve[:, None] * w1)
        constant = (scale * visited.d_beta - folded.centre * curve) @ w1
        d_genes, d_rows = _through_relu(sides, visited.d_grid, linear, constant)
        zeros = torch.zeros_like
        return (
            d_genes, d_rows, None, None, d_w1, zeros(gamma1), d_gamma1, visited.d_beta,
            visited.d_w2, zeros(gamma2), d_gamma2, d_beta2, d_gene_weight, d_offset, None,
        )  # fmt: skip


class _SecondGradient(NamedTuple):
    """Gradient of W2 z: d_out ⊗ weight − share · (constant + slope · W2 z)."""

    d_out: Tensor
    weight: Tensor
    slope: Tensor
    constant: Tensor

    def block(self, at: slice, y: Tensor, share: Tensor) -> Tensor:
        """Flat `[g·R, h]`."""
        correction = torch.addcmul(self.constant, y, self.slope).mul_(share[:, None])
        return (self.d_out[at].unsqueeze(2) * self.weight[at].unsqueeze(1)).sub_(correction).flatten(0, 1)


class _Visited(NamedTuple):
    """What one pass over the grid sums up: gradient sums, and the gradient of X before the terms of the first norm."""

    d_w2: Tensor
    d_beta: Tensor
    cross: Tensor
    d_grid: Tensor


def _visit(sides: _Sides, folded: _Folded, y: Tensor, w2: Tensor, second: _SecondGradient) -> _Visited:
    width = sides.rows.shape[1]
    d_w2, d_beta = torch.zeros_like(w2), w2.new_zeros(w2.shape[1])
    cross = w2.new_zeros(w2.shape[1], width)
    d_grid = y.new_empty(y.shape[0], y.shape[1], width)
    for at in sides.blocks():
        x = sides.grid(at)
        z = torch.addmm(folded.bias, x, folded.weight.T).relu_()
        d_y = second.block(at, y[at], sides.share)
        d_w2 += d_y.T @ z
        d_u = _where_positive(torch.mm(d_y, w2), z)
        d_beta += d_u.sum(dim=0)
        cross += d_u.T @ x
        torch.mm(d_u, folded.weight, out=d_grid[at].view(-1, width))
    return _Visited(d_w2, d_beta, cross, d_grid)


def _where_positive(gradient: Tensor, x: Tensor) -> Tensor:
    """Pass a gradient through a ReLU of output x: one pass, where a product with a mask would convert it first."""
    passed: Tensor = torch.ops.aten.threshold_backward(gradient, x, 0)
    return passed


def _through_relu(sides: _Sides, d_grid: Tensor, linear: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of both sides of X, once the sums of the first norm are known."""
    d_genes, d_rows = torch.zeros_like(sides.genes), torch.zeros_like(sides.rows)
    for at in sides.blocks():
        x = sides.grid(at)
        correction = torch.addmm(constant, x, linear).mul_(sides.shares(at))
        d_x = _where_positive(d_grid[at].flatten(0, 1).sub_(correction), x).view(-1, *sides.rows.shape)
        d_rows += d_x.sum(dim=0)
        if sides.genes.shape[1] == 1:
            d_genes[at, 0] = d_x.sum(dim=1)
        else:
            d_genes[at].index_add_(1, sides.variant, d_x)
    return d_genes, d_rows
