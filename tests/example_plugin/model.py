"""A model of screens: profile = control + link(W · embedding of the perturbation)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from example_plugin.loss import Huber
from pertexp.config.errors import DataError, MismatchError
from pertexp.data.screens.batch_layouts import require_fields
from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.profiles import Units
from pertexp.metrics.output import Output, Profile
from pertexp.models.protocols import ScreenSchema
from pertexp.models.vocabulary import Vocabulary
from pertexp.training.schedulers import Scheduler, configured, constant

Link = Callable[[Tensor], Tensor]


class LinearShift(lightning.LightningModule):
    """Trained on mean profiles of all training units at once (data/batches=graph)."""

    predicts: ClassVar[Output] = Profile("as_data")
    vocabulary: Vocabulary

    def __init__(
        self,
        embedding: Tensor,
        control: Tensor,
        link: Link,
        loss: Huber,
        optimizer: Callable[..., Optimizer],
        scheduler: Scheduler = constant,
    ) -> None:
        super().__init__()
        self.link, self.loss = link, loss
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.register_buffer("embedding", embedding)  # [P, d]
        self.register_buffer("control", control)  # [C, G]
        self.linear = torch.nn.Linear(embedding.shape[1], control.shape[1])

    @classmethod
    def from_data(
        cls,
        data: ScreenData,
        loss: Huber,
        optimizer: Callable[..., Optimizer],
        scheduler: Scheduler,
        link: Link,
        name: str,
    ) -> "LinearShift":
        """Build the untrained model; MismatchError where batches or loss are not those that it is trained on."""
        require_fields(data.batches, frozenset({"profile", "control", "perturbation"}), name, ["graph"])
        if not isinstance(loss, Huber):
            raise MismatchError(f"model={name} is trained on mean profiles: type loss=huber.")
        training = data.design.training
        facts = (torch.from_numpy(values).float() for values in (training.perturbation_embedding, training.control))
        model = cls(*facts, link, loss, optimizer, scheduler)
        model.vocabulary = Vocabulary.of(data.design)
        return model

    @classmethod
    def from_checkpoint(
        cls,
        weights: Mapping[str, Tensor],
        schema: ScreenSchema | None = None,
        *,
        link: Link,
        name: str = "linear_shift",
    ) -> "LinearShift":
        """Build the trained model from a checkpoint alone; DataError where the weights are those of another."""
        if "embedding" not in weights or "control" not in weights:
            raise DataError(f"these are no weights of {name}.")
        model = cls(weights["embedding"], weights["control"], link, Huber(), torch.optim.AdamW)
        model.load_state_dict(dict(weights))
        if schema is not None:
            model.vocabulary = schema.vocabulary
        return model.eval()

    def forward(self, perturbation: Tensor) -> Tensor:
        """Effects `[U, G]` of perturbations by index."""
        return self.link(self.linear(self.embedding[perturbation]))

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        return self.loss(batch["control"] + self(batch["perturbation"]), batch["profile"])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        """The loss of all training units."""
        loss = self._loss(batch)
        self.log("train/loss", loss, batch_size=len(batch["profile"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        """Log `val/loss`, by which the best epoch is kept."""
        self.log("val/loss", self._loss(batch), batch_size=len(batch["profile"]))

    def configure_optimizers(self) -> Any:
        """What the groups `optimizer` and `scheduler` say."""
        return configured(self.make_optimizer(self.parameters()), self.make_scheduler)

    @torch.no_grad()
    def predict(self, units: Units) -> np.ndarray:
        """`[U, G]` profiles."""
        effect = self(torch.from_numpy(units.perturbation).to(self.device))
        return (self.control[torch.from_numpy(units.context).to(self.device)] + effect).double().cpu().numpy()

    def units_named(self, names: Sequence[str], context: str) -> Units:
        """Units by name; a perturbation that the screen did not hold is known by the embedding of its members."""
        known = self.vocabulary.perturbations
        new = [name for name in names if name not in known]
        if new:
            rows = torch.from_numpy(self.vocabulary.rows(new)).to(self.embedding)
            self.embedding = torch.cat([self.embedding, rows])
            known = (*known, *new)
            self.vocabulary = replace(self.vocabulary, perturbations=known)
        number = np.array([known.index(name) for name in names], dtype=np.int64)
        return Units(number, np.full(len(names), self.vocabulary.context(context)))
