"""Proximal steps after Adam: penalties that set weights exactly to zero, which gradient steps do not."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pertexp.config.errors import MismatchError

_NEWTON_STEPS = 20
_SMALLEST = 1e-30


def adam_step_size(optimizer: Optimizer, parameter: nn.Parameter) -> Tensor:
    """Step length of each entry in the last Adam step: lr / (√v̂ + ε), of the parameter's shape.

    The metric in which Adam descends is diag(√v̂ + ε) / lr, so this is the threshold unit of its proximal step.

    Raises
    ------
    MismatchError
        Where the optimizer is not of Adam's kind, so that its metric is not known.
    """
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    state = optimizer.state[parameter]
    if "exp_avg_sq" not in state or "step" not in state:
        raise MismatchError(
            f"model.regularization l1 and group are proximal steps in Adam's metric, but the optimizer is "
            f"{type(optimizer).__name__}: type optimizer=adamw, or both weights 0."
        )
    square = state.get("max_exp_avg_sq", state["exp_avg_sq"])
    unbiased = square / (1 - group["betas"][1] ** float(state["step"]))
    step: Tensor = group["lr"] / (unbiased.sqrt() + group["eps"])
    return step


@torch.no_grad()
def soft_threshold_(parameter: nn.Parameter, threshold: Tensor) -> None:
    """In place sign(x)·max(|x| − t, 0): the proximal step of Σ t|x|; threshold of the parameter's shape."""
    parameter.copy_(parameter.sign() * (parameter.abs() - threshold).clamp_min(0))


@torch.no_grad()
def shrink_columns_(parameter: nn.Parameter, threshold: Tensor) -> None:
    """In place the proximal step of Σ_j ‖x_j‖₂ over the columns of `[d, r]`, in the metric diag(1/t).

    It is x_i = z_i r / (r + t_i), where the new length r solves Σ z_i² / (r + t_i)² = 1, and 0 where Σ (z_i/t_i)² ≤ 1.
    A common threshold would not do: after Adam's own step lengths its fixed point is not the penalised minimum.

    Parameters
    ----------
    parameter, threshold
        z and t > 0, both `[d, r]`.
    """
    z, t = parameter.double(), threshold.double().clamp_min(_SMALLEST)
    length = (z.norm(dim=0) - t.amax(dim=0)).clamp_min(0)
    for _ in range(_NEWTON_STEPS):  # f^(-1/2) is concave in r, so Newton's method climbs to the root from below
        ratio = z.square() / (length + t).square()
        total, slope = ratio.sum(dim=0), (ratio / (length + t)).sum(dim=0)
        length = (length + total * (total.sqrt() - 1) / slope.clamp_min(_SMALLEST)).clamp_min(0)
    parameter.copy_(z * length / (length + t))
