"""A model of pairs as small as can be: a logistic regression on the GC content of both elements and of the support."""

from collections.abc import Iterable
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from pertexp.data.pairs.loader import Batch
from pertexp.metrics.output import Probability
from pertexp.models.protocols import Target
from pertexp.runs.schema import Diagnostic
from pertexp.training.schedulers import configured, constant


def gc(tokens: Tensor) -> Tensor:
    """`[...]` share of C and G among all known bases of tokens `[..., L]`, one half where none is known."""
    known = (tokens < 4).sum(-1).float()
    return torch.where(known > 0, ((tokens == 1) | (tokens == 2)).sum(-1) / known.clamp(min=1), 0.5)


class GcModel(lightning.LightningModule):
    predicts = Probability()

    targets = (
        Target("test/auprc", 0.75, 1.0, "test AUPRC at least 0.75"),
        Target("gap", float("-inf"), 0.15, "gap at most 0.15"),
        Target("bias", -100.0, 100.0, "a bias that is no outlier"),
        Target("adversary", 0.0, 0.3, "adversary below 0.3"),
    )

    def __init__(self, optimizer: Any, scheduler: Any = constant) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler

    @classmethod
    def from_data(cls, data: Any, loss: Any, optimizer: Any, scheduler: Any, name: str) -> "GcModel":  # noqa: ARG003
        return cls(optimizer, scheduler)

    def forward(self, batch: Batch) -> Tensor:
        own = [gc(batch["enhancer"]), gc(batch["promoter"])]
        line = torch.zeros_like(own[0])
        if "support_enhancer" in batch:
            line = gc(batch["support_enhancer"]).mean(dim=1)[batch["group"]]
        features = 10 * (torch.stack([*own, line], dim=1) - 0.5)
        return self.linear(features)[:, 0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        return torch.nn.functional.binary_cross_entropy_with_logits(self(batch), batch["label"])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self(batch), batch["label"])
        self.log("val/loss", loss, batch_size=len(batch["label"]))

    def configure_optimizers(self) -> Any:
        return configured(self.make_optimizer(self.parameters()), self.make_scheduler)

    @torch.no_grad()
    def predict(self, batches: Iterable[Batch]) -> np.ndarray:
        return torch.cat([torch.sigmoid(self(batch)) for batch in batches]).numpy()

    def diagnostics(self, data: Any) -> dict[str, Diagnostic]:
        return {"bias": Diagnostic(float(self.linear.bias.detach()), 0.0, f"of {len(data.design.lines)} lines")}
