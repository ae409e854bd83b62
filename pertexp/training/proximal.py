"""Proximal steps after Adam: penalties that reach zero exactly, which a gradient step never does."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def adam_step_size(optimizer: Optimizer, parameter: nn.Parameter) -> Tensor:
    """Step length of each entry in the last Adam step: lr / (√v̂ + ε), of the parameter's shape.

    The metric in which Adam descends is diag(√v̂ + ε) / lr, so this is the threshold unit of its proximal step.
    """
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    state = optimizer.state[parameter]
    unbiased = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
    return group["lr"] / (unbiased.sqrt() + group["eps"])


@torch.no_grad()
def soft_threshold_(parameter: nn.Parameter, threshold: Tensor) -> None:
    """In place sign(x)·max(|x| − t, 0): the proximal step of Σ t|x|; threshold of the parameter's shape."""
    parameter.copy_(parameter.sign() * (parameter.abs() - threshold).clamp_min(0))


@torch.no_grad()
def shrink_columns_(parameter: nn.Parameter, threshold: Tensor) -> None:
    """In place x_j·max(1 − t_j / ‖x_j‖₂, 0): the proximal step of Σ_j t_j‖x_j‖₂ over the columns of `[d, r]`."""
    length = parameter.norm(dim=0)
    parameter.mul_((1 - threshold / length.clamp_min(torch.finfo(parameter.dtype).tiny)).clamp_min(0))
