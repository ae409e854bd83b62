"""The blockwise decoder against the same layers written plainly."""

import pytest
import torch

from pertexp.nn import grid_decoder
from pertexp.nn.grid_decoder import DecoderLayers, decode, grid
from pertexp.nn.weighted_norm import Perceptron, WeightedBatchNorm


def plain(genes, rows, variant, weight, shared, gene_weight, gene_offset):
    x = grid(genes, rows, variant).transpose(0, 1)
    y = shared(x, weight[:, None].expand(x.shape[:2]))
    return (y * gene_weight).sum(dim=2) + gene_offset


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("n_variants", "weight"), [(1, [1, 2, 1, 3, 1]), (2, [1, 2, 1, 3, 1]), (5, [1] * 5), (1, [2])])
def test_outputs_gradients_and_statistics_are_those_of_the_plain_layers(n_variants, weight, training, monkeypatch):
    monkeypatch.setattr(grid_decoder, "ROWS_AT_ONCE", 33)  # many blocks, the last of them smaller
    torch.manual_seed(0)
    n_genes, n_rows, width = 41, len(weight), 6
    ours, theirs = (Perceptron(width, 2 * width, width).double() for _ in range(2))
    for module in ours.modules():
        if isinstance(module, WeightedBatchNorm):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    theirs.load_state_dict(ours.state_dict())
    variant, weight = torch.arange(n_rows) % n_variants, torch.tensor(weight).double()
    shapes = [(n_genes, n_variants, width), (n_rows, width), (n_genes, width), (n_genes,)]
    left = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    right = [each.clone() for each in left]
    for each in (*left, *right):
        each.requires_grad_()
    pull = torch.randn(n_rows, n_genes, dtype=torch.float64)
    ours.train(training), theirs.train(training)
    a = decode(left[0], left[1], variant, weight, DecoderLayers.of(ours, left[2], left[3]))
    b = plain(right[0], right[1], variant, weight, theirs, right[2], right[3])
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    (a * pull).sum().backward(), (b * pull).sum().backward()
    for mine, other in zip([*left, *ours.parameters()], [*right, *theirs.parameters()], strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-10, atol=1e-12)
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    shared = Perceptron(3, 6, 3).double()
    variant, weight = torch.tensor([0, 1, 0]), torch.tensor([1.0, 2.0, 3.0]).double()
    inputs = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 2, 3), (3, 3), (5, 3), (5,))
    ]

    def out(genes, rows, gene_weight, gene_offset):
        return decode(genes, rows, variant, weight, DecoderLayers.of(shared, gene_weight, gene_offset))

    assert torch.autograd.gradcheck(out, inputs, eps=1e-6, atol=1e-6)


def test_little_is_kept_for_the_backward_pass():
    """W2 z and the two sides: not a dozen tensors of the size of the grid."""
    shared = Perceptron(8, 16, 8)
    n_genes, n_rows = 300, 10
    sides = [torch.randn(n_genes, 1, 8, requires_grad=True), torch.randn(n_rows, 8, requires_grad=True)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        decoder = DecoderLayers.of(shared, torch.randn(n_genes, 8), torch.randn(n_genes))
        decode(sides[0], sides[1], torch.zeros(n_rows, dtype=torch.int64), torch.ones(n_rows), decoder)
    assert sum(kept) < 1.5 * n_genes * n_rows * 8
