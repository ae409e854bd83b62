"""The identity on the way forward, minus the gradient on the way back."""

import torch
from torch.autograd import gradcheck

from pertexp.nn.gradient_reversal import gradient_reversal


def test_forward_changes_nothing():
    x = torch.randn(3, 4)
    assert torch.equal(gradient_reversal(x, 0.3), x)


def test_backward_is_minus_strength_times_the_gradient():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    y = torch.sin(x).sum()
    (expected,) = torch.autograd.grad(y, x)
    for strength in (0.0, 0.3, 2.0):
        (reversed_,) = torch.autograd.grad(torch.sin(gradient_reversal(x, strength)).sum(), x)
        torch.testing.assert_close(reversed_, -strength * expected)


def test_a_reversal_of_strength_minus_one_is_the_identity_in_every_derivative():
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: gradient_reversal(x, -1.0) ** 3, x)


def test_twice_is_forward_again():
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(gradient_reversal(gradient_reversal(x, 2.0), 3.0).square().sum(), x)
    torch.testing.assert_close(gradient, 6 * 2 * x.detach())


def test_used_twice_beside_a_straight_path_gradients_add_up():
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    out = x.sum() + gradient_reversal(x, 1.0).square().sum() + gradient_reversal(x, 0.5).sum()
    torch.testing.assert_close(torch.autograd.grad(out, x)[0], 1 - 2 * x.detach() - 0.5)


def test_what_follows_learns_and_what_precedes_unlearns():
    """A step on encoder and classifier at once: each alone, the classifier lessens the loss, the encoder raises it."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 3, generator=draw), torch.randint(2, (64,), generator=draw)
    encoder = torch.randn(3, 2, generator=draw).requires_grad_()
    classifier = torch.randn(2, 2, generator=draw).requires_grad_()

    def loss(encoder, classifier):
        return torch.nn.functional.cross_entropy(gradient_reversal(x @ encoder, 1.0) @ classifier, y)

    before = loss(encoder, classifier)
    by_encoder, by_classifier = torch.autograd.grad(before, (encoder, classifier))
    assert loss(encoder, classifier - 0.01 * by_classifier) < before
    assert loss(encoder - 0.01 * by_encoder, classifier) > before
