"""A model of impacts as small as can be: the training mean of |effect|, times what an embedding says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim import Optimizer

from pertexp.data.screens.batch_layouts import require_fields
from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.profiles import Units
from pertexp.metrics.output import Impact, Output
from pertexp.models.protocols import ScreenSchema
from pertexp.models.vocabulary import Vocabulary
from pertexp.training.schedulers import Scheduler, configured, constant


class ImpactModel(lightning.LightningModule):
    """impact = mean |effect| · softplus(1 + W · embedding), fitted to |profile − control|."""

    predicts: ClassVar[Output] = Impact()
    vocabulary: Vocabulary

    def __init__(
        self, embedding: Tensor, size: Tensor, optimizer: Callable[..., Optimizer], scheduler: Scheduler = constant
    ) -> None:
        super().__init__()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.register_buffer("embedding", embedding)  # [P, d]
        self.register_buffer("size", size)  # [G]
        self.linear = torch.nn.Linear(embedding.shape[1], size.shape[0])

    @classmethod
    def from_data(
        cls,
        data: ScreenData,
        loss: Any,  # noqa: ARG003
        optimizer: Callable[..., Optimizer],
        scheduler: Scheduler,
        name: str,
    ) -> "ImpactModel":
        require_fields(data.batches, frozenset({"profile", "control", "perturbation"}), name, ["graph"])
        training = data.design.training
        size = np.abs(training.effects).mean(axis=0)
        facts = (torch.from_numpy(values).float() for values in (training.perturbation_embedding, size))
        model = cls(*facts, optimizer, scheduler)
        model.vocabulary = Vocabulary.of(data.design)
        return model

    @classmethod
    def from_checkpoint(
        cls, weights: Mapping[str, Tensor], schema: ScreenSchema | None = None, *, name: str = "impact_stand_in"
    ) -> "ImpactModel":  # fmt: skip
        del name
        model = cls(weights["embedding"], weights["size"], torch.optim.AdamW)
        model.load_state_dict(dict(weights))
        if schema is not None:
            model.vocabulary = schema.vocabulary
        return model.eval()

    def forward(self, perturbation: Tensor) -> Tensor:
        return self.size * softplus(1.0 + self.linear(self.embedding[perturbation]))

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        return (self(batch["perturbation"]) - (batch["profile"] - batch["control"]).abs()).square().mean()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        loss = self._loss(batch)
        self.log("train/loss", loss, batch_size=len(batch["profile"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        self.log("val/loss", self._loss(batch), batch_size=len(batch["profile"]))

    def configure_optimizers(self) -> Any:
        return configured(self.make_optimizer(self.parameters()), self.make_scheduler)

    @torch.no_grad()
    def predict(self, units: Units) -> np.ndarray:
        return self(torch.from_numpy(units.perturbation).to(self.device)).double().cpu().numpy()

    def units_named(self, names: Sequence[str], context: str) -> Units:
        known = self.vocabulary.perturbations
        new = [name for name in names if name not in known]
        if new:
            self.embedding = torch.cat([self.embedding, torch.from_numpy(self.vocabulary.rows(new)).to(self.embedding)])
            known = (*known, *new)
            self.vocabulary = replace(self.vocabulary, perturbations=known)
        number = np.array([known.index(name) for name in names], dtype=np.int64)
        return Units(number, np.full(len(names), self.vocabulary.context(context)))
