"""A model of units as small as can be: profile = control + W · embedding of the perturbation."""

from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from pertexp.data.screens.batch_layouts import require_fields
from pertexp.metrics.output import Profile
from pertexp.training.schedulers import configured


class UnitModel(lightning.LightningModule):
    predicts = Profile("as_data")

    def __init__(self, embedding: Tensor, control: Tensor, optimizer: Any, scheduler: Any) -> None:
        super().__init__()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.register_buffer("embedding", embedding)
        self.register_buffer("control", control)
        self.linear = torch.nn.Linear(embedding.shape[1], control.shape[1])
        self.dropout = torch.nn.Dropout(0.2)  # draws from a generator whose state has to be resumed

    @classmethod
    def from_data(cls, data: Any, loss: Any, optimizer: Any, scheduler: Any, name: str) -> "UnitModel":  # noqa: ARG003
        require_fields(data.batches, frozenset({"profile", "control", "perturbation"}), name, ["graph"])
        training = data.design.training
        facts = (torch.from_numpy(values).float() for values in (training.perturbation_embedding, training.control))
        return cls(*facts, optimizer, scheduler)

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        effect = self.linear(self.dropout(self.embedding[batch["perturbation"]]))
        return (batch["control"] + effect - batch["profile"]).square().mean()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        return self._loss(batch)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        self.log("val/loss", self._loss(batch), batch_size=len(batch["perturbation"]))

    def configure_optimizers(self) -> Any:
        return configured(self.make_optimizer(self.parameters()), self.make_scheduler)

    @torch.no_grad()
    def predict(self, units: Any) -> np.ndarray:
        effect = self.linear(self.embedding[torch.from_numpy(units.perturbation)])
        return (self.control[torch.from_numpy(units.context)] + effect).double().numpy()
