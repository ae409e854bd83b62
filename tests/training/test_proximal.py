"""Proximal steps after AdamW end at the minimum of the penalised problem, with exact zeros."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn

from pertexp.config.errors import MismatchError
from pertexp.training.proximal import adam_step_size, shrink_columns_, soft_threshold_


def regression(n=200, d=12, seed=0):
    """A least-squares problem of columns on different scales, with few true coefficients."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.linspace(0.5, 3.0, d)
    truth = np.where(np.arange(d) % 3 == 0, rng.normal(size=d) * 2, 0.0)
    return x, x @ truth + rng.normal(size=n)


def descend(parameter, loss, proximal, steps=2500):
    """AdamW and a proximal step, the learning rate falling to nothing."""
    optimizer = torch.optim.AdamW([parameter], lr=0.05, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / steps) ** 2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(parameter).backward()
        optimizer.step()
        proximal(parameter, adam_step_size(optimizer, parameter))
        schedule.step()
    return parameter.detach().numpy()


@pytest.mark.medium
@pytest.mark.parametrize("weight", [0.3, 3.0])
def test_l1_ends_at_the_lasso(weight):
    x, y = regression()
    design, target = torch.from_numpy(x), torch.from_numpy(y)
    found = descend(
        nn.Parameter(torch.zeros(x.shape[1], dtype=torch.float64)),
        lambda beta: (target - design @ beta).square().mean() / 2,
        lambda beta, step: soft_threshold_(beta, weight * step),
    )
    oracle = Lasso(alpha=weight, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(x, y).coef_
    assert 0 < np.count_nonzero(oracle) < len(oracle)
    np.testing.assert_allclose(found, oracle, atol=1e-3)
    np.testing.assert_array_equal(found == 0, oracle == 0)


def group_lasso(gram, cross, weight, steps=3000):
    """min ½ tr BᵀSB − tr CᵀB + λ Σ_j ‖B_j‖, by plain proximal gradient: one step length, so one threshold."""
    step = 1 / np.linalg.eigvalsh(gram).max()
    beta = np.zeros_like(cross)
    for _ in range(steps):
        moved = beta - step * (gram @ beta - cross)
        length = np.linalg.norm(moved, axis=0)
        beta = moved * np.maximum(1 - weight * step / np.maximum(length, 1e-300), 0)
    return beta


@pytest.mark.medium
def test_the_group_penalty_ends_at_the_group_lasso():
    x, _ = regression(d=5)
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(5, 4)) * [2.0, 0.02, 1.0, 0.0]
    y = x @ truth + rng.normal(size=(200, 4))
    gram, cross, weight = x.T @ x / 200, x.T @ y / 200, 1.0
    design, target = torch.from_numpy(x), torch.from_numpy(y)
    found = descend(
        nn.Parameter(torch.zeros(5, 4, dtype=torch.float64)),
        lambda beta: (target - design @ beta).square().sum() / 400,
        lambda beta, step: shrink_columns_(beta, weight * step),
    )
    oracle = group_lasso(gram, cross, weight)
    np.testing.assert_allclose(found, oracle, atol=1e-3)
    np.testing.assert_array_equal((found == 0).all(axis=0), [False, True, False, True])


def test_shrinking_a_column_solves_its_optimality_conditions():
    torch.manual_seed(0)
    start = torch.randn(6, 50, dtype=torch.float64)
    threshold = torch.rand(6, 50, dtype=torch.float64) * 3 + 1e-6
    column = nn.Parameter(start.clone())
    shrink_columns_(column, threshold)
    length = column.detach().norm(dim=0)
    dropped = (start / threshold).square().sum(dim=0) <= 1
    assert 0 < dropped.sum() < 50
    assert torch.equal(length == 0, dropped)
    x, z, t, r = (part[..., ~dropped] for part in (column.detach(), start, threshold, length))
    torch.testing.assert_close((z - x) / t, x / r, rtol=1e-9, atol=1e-9)


def test_one_threshold_shrinks_the_length_by_it():
    column = nn.Parameter(torch.tensor([[3.0, 0.3], [4.0, 0.4], [0.0, 0.0]]))
    shrink_columns_(column, torch.full((3, 2), 1.0))
    torch.testing.assert_close(column.detach(), torch.tensor([[2.4, 0.0], [3.2, 0.0], [0.0, 0.0]]))
    empty = nn.Parameter(torch.zeros(3, 2))
    shrink_columns_(empty, torch.full((3, 2), 1e-30))
    assert torch.equal(empty.detach(), torch.zeros(3, 2))


def test_the_step_size_is_the_step_that_adam_takes():
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, amsgrad=True)
    for scale in (5.0, 1.0, 0.1):
        before, gradient = weight.detach().clone(), scale * torch.tensor([0.1, -1.0, 10.0])
        weight.grad = gradient
        optimizer.step()
    state = optimizer.state[weight]
    momentum = state["exp_avg"] / (1 - 0.9 ** float(state["step"]))
    expected = before - adam_step_size(optimizer, weight) * momentum
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6)


def test_another_optimizer_has_no_metric_to_step_in():
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(MismatchError, match=r"SGD.*optimizer=adamw"):
        adam_step_size(optimizer, weight)
