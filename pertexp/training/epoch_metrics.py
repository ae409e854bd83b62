"""Metrics of an epoch of training or validation, collected batch by batch and over processes by torchmetrics."""

from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
)
from torchmetrics.utilities import dim_zero_cat


class PairEpochMetrics(Metric):
    """AUPRC, AUROC and F1 of the pairs of an epoch, each the mean over the cell lines that have both labels.

    F1 is the one at the threshold that makes it best, line by line. A line with one label is left out. Values are
    computed in float32 from logits kept in float32, and averaged over lines in float64. Over several processes they
    are those of the pairs of all processes. Nothing enters the `state_dict`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    logit: list[Tensor]
    label: list[Tensor]
    line: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # All in float32: torchmetrics gathers an empty float tensor from a process that has seen no batch.
        for name in ("logit", "label", "line"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logit: Tensor, label: Tensor, line: Tensor) -> None:
        """Add the pairs `[n]` of a batch: logit, label (0 or 1), number of the cell line."""
        for kept, values in ((self.logit, logit), (self.label, label), (self.line, line)):
            kept.append(values.detach().float())

    def compute(self) -> dict[str, float]:
        """Return `auprc`, `auroc` and `f1`; empty where no line has pairs of both labels."""
        if isinstance(self.logit, list) and not self.logit:
            return {}
        # On the CPU: the cumulative sums of a GPU are not deterministic.
        logit, label, line = (dim_zero_cat(state).cpu() for state in (self.logit, self.label, self.line))
        lines = [line == number for number in torch.unique(line)]
        values = [_line_metrics(logit[rows], label[rows].long()) for rows in lines if _has_both(label[rows])]
        return {name: sum(one[name] for one in values) / len(values) for name in values[0]} if values else {}


def log_epoch(module: LightningModule, role: str, metrics: PairEpochMetrics) -> None:
    """Log the values of the epoch that ends as `<role>/<name>`, and reset the metrics for the next one."""
    for name, value in metrics.compute().items():
        bar = name == "auprc"  # sync_dist: the value is that of all processes already, which Lightning cannot know
        module.log(f"{role}/{name}", value, on_step=False, on_epoch=True, prog_bar=bar, sync_dist=True)
    metrics.reset()


def _has_both(label: Tensor) -> bool:
    return bool((label > 0).any() and (label == 0).any())


def _line_metrics(logit: Tensor, label: Tensor) -> dict[str, float]:
    """Return values of one line `[n]`, from ranks: torchmetrics takes a sigmoid of logits, which ties large ones."""
    rank = torch.unique(logit, return_inverse=True)[1].double()
    score = rank / rank.max().clamp(min=1)
    precision, recall, _ = binary_precision_recall_curve(score, label)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=torch.finfo(precision.dtype).tiny)
    return {
        "auprc": float(binary_average_precision(score, label)),
        "auroc": float(binary_auroc(score, label)),
        "f1": float(f1.max()),
    }
