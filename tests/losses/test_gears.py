"""The loss of GEARS against the released functions, and what its options change."""

import numpy as np
import pytest
import torch
from frozen import read_golden

from pertexp.config.errors import RequestError
from pertexp.losses.gears import GearsLoss


@pytest.fixture(scope="module")
def case():
    golden = read_golden("gears")
    return {key.removeprefix("loss/"): torch.from_numpy(value) for key, value in golden.items() if "loss/" in key}


def value(loss: GearsLoss, case, log_variance=None) -> torch.Tensor:
    args = (case["pred"], case["y"], case["control"], case["condition"], case["counted"])
    return loss(*args, log_variance)


def test_it_is_the_released_loss(case):
    case = {**case, "pred": case["pred"].clone().requires_grad_()}
    loss = value(GearsLoss(direction="sign"), case)
    loss.backward()
    np.testing.assert_allclose(loss.item(), case["plain"].item(), rtol=1e-13)
    np.testing.assert_allclose(case["pred"].grad, case["plain_grad"], rtol=1e-12, atol=1e-15)


def test_it_is_the_released_ranking_loss(case):
    loss = value(GearsLoss(direction="sign", uncertainty="ranking", ranking_weight=0.7), case, case["logvar"])
    np.testing.assert_allclose(loss.item(), case["ranking"].item(), rtol=1e-6)  # it adds up in float32


def test_every_condition_weighs_the_same(case):
    """Doubling the cells of one condition changes nothing, by hand over conditions."""
    twice = torch.cat([torch.arange(6), torch.tensor([1, 3, 5])])
    doubled = {key: value[twice] if value.ndim and len(value) == 6 else value for key, value in case.items()}
    loss = GearsLoss()
    torch.testing.assert_close(value(loss, doubled), value(loss, case))


def test_the_direction_has_a_gradient_only_where_it_is_smooth(case):
    for direction, moves in (("sign", False), ("tanh", True)):
        predicted = case["pred"].clone().requires_grad_()
        loss = GearsLoss(direction=direction, direction_weight=1.0)
        plain = GearsLoss(direction_weight=0.0)
        both = [value(each, {**case, "pred": predicted}) for each in (loss, plain)]
        (gradient,) = torch.autograd.grad(both[0] - both[1], predicted)
        assert bool(gradient.any()) == moves


def test_the_gaussian_is_least_at_the_true_variance():
    torch.manual_seed(0)
    sd = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)
    y = sd * torch.randn(20_000, 3, dtype=torch.float64)
    log_variance = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = GearsLoss(uncertainty="gaussian", direction_weight=0.0)
    cells = torch.zeros(len(y), dtype=torch.int64)
    optimizer = torch.optim.LBFGS([log_variance], line_search_fn="strong_wolfe", max_iter=50)

    def closure():
        optimizer.zero_grad()
        out = loss(torch.zeros_like(y), y, torch.zeros(3), cells, torch.ones_like(y, dtype=torch.bool),
                   log_variance.expand(y.shape))  # fmt: skip
        out.backward()
        return out

    optimizer.step(closure)
    torch.testing.assert_close(log_variance.detach(), y.square().mean(dim=0).log(), rtol=1e-4, atol=1e-4)


def test_other_exponents_are_powers(case):
    loss = GearsLoss(gamma=1.5, direction_weight=0.0, genes="all")
    everything = {**case, "counted": torch.ones_like(case["counted"]), "condition": torch.zeros(6, dtype=torch.int64)}
    expected = (case["pred"] - case["y"]).abs().pow(3.5).mean()
    torch.testing.assert_close(value(loss, everything), expected)


@pytest.mark.parametrize("option", ["gamma", "direction_weight", "ranking_weight"])
def test_a_negative_weight_is_refused(option):
    with pytest.raises(RequestError, match=rf"loss\.{option}=-1"):
        GearsLoss(**{option: -1.0})
