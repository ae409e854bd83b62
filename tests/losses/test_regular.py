"""Sparsity and prototypes, by hand and by what they are for."""

import pytest
import torch

from pertexp.config.errors import RequestError
from pertexp.losses.regular import Prototypes, nonzero_share, sparsity


def test_sparsity_is_a_mean():
    z = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    assert sparsity(z) == 6 / 4
    assert sparsity(z, "l2") == 14 / 4
    for norm in ("l1", "l2"):  # neither the batch nor the width changes the weight
        torch.testing.assert_close(sparsity(z.repeat(3, 5), norm), sparsity(z, norm))
    with pytest.raises(RequestError, match="norm=l0"):
        sparsity(z, "l0")


@pytest.mark.medium
def test_l1_makes_zeros_where_l2_only_shrinks():
    """Proximal oracle: the least of ½(z − x)² + δ|z| is a soft threshold, of ½(z − x)² + δz² a shrinkage."""
    x = torch.tensor([[0.05, -0.2, 1.0, -3.0]], dtype=torch.float64)
    expected = {"l1": x.sign() * (x.abs() - 0.3).clamp_min(0), "l2": x / 1.6}
    for norm, least in expected.items():
        z = x.clone().requires_grad_()
        for step in range(3000):
            value = 0.5 * (z - x).square().sum() + 0.3 * x.numel() * sparsity(z, norm)
            (gradient,) = torch.autograd.grad(value, z)
            z = (z - 0.1 / (1 + 0.1 * step) * gradient).detach().requires_grad_()
        torch.testing.assert_close(z.detach(), least, rtol=0, atol=2e-3)


def test_share_of_features_that_are_not_zero():
    z = torch.tensor([[0.0, 1.0, -2.0, 0.0], [0.0, 1e-6, 3.0, 4.0]])
    assert nonzero_share(z) == 4 / 8
    assert nonzero_share(z * 1e-5) == 4 / 8  # shrinking alone makes no feature zero
    assert nonzero_share(z, tolerance=0.0) == 5 / 8
    assert nonzero_share(torch.zeros(3, 2)) == 0
    assert nonzero_share(torch.ones(1, 1)) == 1


def test_prototypes_run_as_the_document_says():
    prototypes = Prototypes(3, 2, momentum=0.9)
    prototypes.update(torch.tensor([2]), torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(prototypes.prototype[2], torch.tensor([1.0, 2.0]))  # the first one sets it
    prototypes.update(torch.tensor([2, 0]), torch.tensor([[2.0, 4.0], [5.0, 5.0]]))
    torch.testing.assert_close(prototypes.prototype, torch.tensor([[5.0, 5.0], [0.0, 0.0], [1.1, 2.2]]))
    assert prototypes.seen.tolist() == [True, False, True]


def test_only_lines_with_a_prototype_count():
    prototypes = Prototypes(3, 2)
    e = torch.tensor([[1.0, 1.0], [9.0, 9.0], [2.0, 3.0]], requires_grad=True)
    line = torch.tensor([0, 1, 0])
    nothing = prototypes(e, line)
    assert nothing == 0
    assert not nothing.requires_grad
    prototypes.update(torch.tensor([0]), torch.tensor([[1.0, 2.0]], requires_grad=True))
    value = prototypes(e, line)
    value.backward()
    assert value.item() == pytest.approx((0 + 1 + 1 + 1) / 4)
    torch.testing.assert_close(e.grad, torch.tensor([[0.0, -0.5], [0.0, 0.0], [0.5, 0.5]]))


def test_prototypes_travel_in_checkpoints():
    prototypes, resumed = Prototypes(2, 3), Prototypes(2, 3)
    prototypes.update(torch.tensor([1]), torch.ones(1, 3))
    resumed.load_state_dict(prototypes.state_dict())
    resumed.update(torch.tensor([1]), torch.full((1, 3), 2.0))
    torch.testing.assert_close(resumed.prototype[1], torch.full((3,), 1.1))


def test_a_momentum_of_one_is_refused():
    with pytest.raises(RequestError, match="momentum=1"):
        Prototypes(2, 3, momentum=1.0)
