"""The LightningModule that trains PRISM and predicts with it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from pertexp.config.errors import DataError, RequestError
from pertexp.config.validate import typed
from pertexp.data.pairs.datamodule import PairData
from pertexp.data.pairs.loader import Batch
from pertexp.losses.contract import Loss, PairPrediction, offered_by, require_loss
from pertexp.losses.interaction import PairLoss
from pertexp.metrics.output import Output, Probability
from pertexp.models.backbones.backbone import BackboneSource, SequenceBackbone
from pertexp.models.prism.diagnostics import TARGETS, diagnostics, read, shares
from pertexp.models.prism.network import PrismNetwork, PrismOutput
from pertexp.models.prism.options import PrismOptions
from pertexp.models.prism.terms import Invariance, Seen, terms_of
from pertexp.models.protocols import PairSchema, Part, StageEpoch
from pertexp.runs.schema import Diagnostic
from pertexp.training.epoch_metrics import PairEpochMetrics, log_epoch
from pertexp.training.schedulers import Scheduler, configured, constant


class PRISM(lightning.LightningModule):
    """σ((U_I − R_E + λ U_I R_E) / T), its task loss, and terms that separate features of the pair from the cell line.

    Over several processes (trainer=ddp) gradients are those of all, but what is remembered, queues, prototypes and
    running statistics, follows the steps of the first process, which hands it to the others before every step. A term
    compares the lines of its own process's step, and those remembered: with N processes N · G lines make a step of the
    optimizer, and no term sees them at once.

    Parameters
    ----------
    backbone
        What reads the sequences.
    options, loss, optimizer, scheduler
        As configured.
    class_of_line
        `[C]` class of each cell line among the K training lines; -1 for lines that are not trained on.
    """

    predicts: ClassVar[Output] = Probability()
    targets = TARGETS
    active_epochs: Tensor
    class_of_line: Tensor

    def __init__(
        self,
        backbone: SequenceBackbone,
        options: PrismOptions,
        loss: Loss[PairPrediction],
        optimizer: Callable[..., Optimizer],
        class_of_line: Tensor,
        scheduler: Scheduler = constant,
    ) -> None:
        super().__init__()
        self.options = options
        self.loss = loss
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.network = PrismNetwork(backbone, options.energy, options.invariant_width, options.environment_width)
        self.terms = terms_of(options, int(class_of_line.max()) + 1)
        self.register_buffer("class_of_line", class_of_line)
        self.register_buffer("active_epochs", torch.tensor(0))  # of the environment; -1 before a stage trains it
        self.train_metrics, self.val_metrics = PairEpochMetrics(), PairEpochMetrics()

    @classmethod
    def from_data(
        cls,
        data: PairData,
        loss: Loss[PairPrediction],
        optimizer: Callable[..., Optimizer],
        backbone: BackboneSource,
        scheduler: Scheduler = constant,
        **options: Any,
    ) -> "PRISM":
        """Start the backbone on training elements, and refuse what cannot be trained as it is set.

        Raises
        ------
        MismatchError
            Where the data are no pairs, or the loss is another's.
        RequestError
            Where a weighted term could only be constant, or classes would be balanced twice.
        """
        chosen = typed(PrismOptions, options, "model")
        _require_fit(data, loss)
        design = data.design
        chosen.require_support(data.support_size)
        chosen.require_lines(len(design.train_lines), data.lines_in_step)
        data.train_dataloader()  # refuses what would otherwise be refused only once the run's folder is written
        loss.fit(design.pairs.label[design.index("train")])
        class_of_line = torch.full((len(design.lines),), -1)
        class_of_line[torch.from_numpy(design.train_lines)] = torch.arange(len(design.train_lines))
        return cls(backbone(design), chosen, loss, optimizer, class_of_line, scheduler)

    @classmethod
    def from_checkpoint(
        cls,
        weights: Mapping[str, Tensor],
        schema: PairSchema | None = None,  # noqa: ARG003
        *,
        backbone: BackboneSource,
        **options: Any,
    ) -> "PRISM":
        """Return the trained module from the `state_dict` of a checkpoint alone, without data: to predict with.

        Nothing is read off the schema: a line is known by its support set.

        Raises
        ------
        DataError
            Where the weights are not those of PRISM with these options.
        """
        chosen = typed(PrismOptions, options, "model")
        if "class_of_line" not in weights:
            raise DataError("these are no weights of PRISM: name a checkpoint of model=prism.")
        module = cls(backbone(None), chosen, PairLoss(), torch.optim.Adam, weights["class_of_line"].clone())
        kept = {name: value for name, value in weights.items() if not name.startswith("loss.")}
        differing = kept.keys() ^ {name for name in module.state_dict() if not name.startswith("loss.")}
        if differing:
            raise DataError(f"these weights are not those of PRISM with these options ({min(differing)} differs).")
        module.load_state_dict(kept, strict=False)
        return module.eval()

    def parts(self) -> dict[str, Part]:
        """`backbone`, `interaction`, `environment`, `temperature` (empty where T is fixed or read off z_E), `terms`."""
        return {**self.network.parts(), "terms": self.terms}

    def begin_epoch(self, now: StageEpoch) -> None:
        """Set R_E = 0 and λ = 0 until a stage trains the environment; from there on ramp the terms, epoch by epoch.

        The running statistics of z_E, the queues and the prototypes follow the steps from there on, and none before.
        """
        self.active_epochs.fill_(now.active.get("environment", -1))

    def forward(self, batch: Batch) -> PrismOutput:
        """Read a batch in the present stage."""
        view: PrismOutput = self.network(batch, environment=bool(self.active_epochs >= 0))
        return view

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Task loss plus weighted terms of one step over G pure batches."""
        view = self(batch)
        task = self._task_loss(view, batch)
        penalty = self.network.energy.penalty(view.scaled_line)
        total = task + penalty + self._weighted(self._seen(view, batch))
        self.train_metrics.update(view.reading.logit, batch["label"], batch["line"])
        self._log("train/loss", total, bar=True)
        self._log("train/task", task)
        self._record_diagnostics(view, batch)
        return total

    def _task_loss(self, view: PrismOutput, batch: Batch) -> Tensor:
        norm = view.invariant.norm(dim=1)
        return self.loss.batch_loss(PairPrediction(view.reading.logit, batch["label"], norm))

    def _weighted(self, seen: Seen) -> Tensor:
        """Return Σ weight · term; nothing until the environment is active."""
        total = seen.own.new_zeros(())
        active_epochs = int(self.active_epochs)
        if active_epochs < 0:
            return total
        for name, term in self.terms.items():
            value = term(seen)
            weight = getattr(self.options.terms, name).at(active_epochs)
            total = total + weight * value
            self._log(f"train/{name}", value)
            self._log(f"weight/{name}", weight)
            if isinstance(term, Invariance):
                self._log("adversary/accuracy", term.accuracy)
        return total

    def _seen(self, view: PrismOutput, batch: Batch) -> Seen:
        support = None if view.line is None else (view.line, self.class_of_line[batch["support_line"]])
        return Seen(view.invariant, view.own, self.class_of_line[batch["line"]], support)

    def _record_diagnostics(self, view: PrismOutput, batch: Batch) -> None:
        """λ, T, R_E of each line, and the shares of features that are not zero."""
        self._log("energy/lambda", self.network.energy.lam)
        self._log("energy/temperature", view.reading.temperature.mean())
        for name, share in shares(view).items():
            self._log(f"sparsity/{name}", share)
        for number in torch.unique(batch["line"]).tolist():
            own = batch["line"] == number
            self._log(f"resistance/line{number}", view.reading.resistance[own].mean())

    def _log(self, name: str, value: Tensor | float, *, bar: bool = False) -> None:
        self.log(name, value, on_step=True, on_epoch=False, prog_bar=bar, batch_size=1)

    def on_train_epoch_end(self) -> None:
        """AUPRC, AUROC and F1 of the epoch, as the network was while it learned."""
        log_epoch(self, "train", self.train_metrics)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Task loss, and what the scores of the epoch are made of."""
        view = self(batch)
        loss = self._task_loss(view, batch)
        self.val_metrics.update(view.reading.logit, batch["label"], batch["line"])
        n = len(batch["label"])
        self.log("val/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=n, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """AUPRC, AUROC and F1 of the validation pairs."""
        log_epoch(self, "val", self.val_metrics)

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the group `optimizer`, over all parameters, also those that are frozen at first."""
        return configured(self.make_optimizer(self.parameters()), self.make_scheduler)

    @torch.inference_mode()
    def views(self, batches: Iterable[Batch]) -> Iterable[tuple[Batch, PrismOutput]]:
        """Return batches as the trained network reads them, on its device."""
        training = self.training
        self.eval()
        try:
            for batch in batches:
                moved = {name: tensor.to(self.device) for name, tensor in batch.items()}
                yield moved, self(moved)
        finally:
            self.train(training)

    def predict(self, batches: Iterable[Batch]) -> np.ndarray:
        """Return P(y = 1) `[n]` of the pairs of all batches, in their order."""
        parts = [view.reading.logit.double().sigmoid().cpu().numpy() for _, view in self.views(batches)]
        return np.concatenate(parts) if parts else np.empty(0)

    def diagnostics(self, data: PairData) -> dict[str, Diagnostic]:
        """Return what z_I and e still tell of line and label on held-out pairs, λ, and R_E and T of every line."""
        roles = [role for role in ("val", "test") if len(data.design.index(role))]
        held = read(self._told(batch for role in roles for batch in data.loader(role)))
        found = {"lambda": Diagnostic(float(self.network.energy.lam.detach()), None, "λ of the trained network")}
        return found | diagnostics(data.design, held, self.class_of_line.cpu().numpy())

    def _told(self, batches: Iterable[Batch]) -> Iterable[tuple[Batch, PrismOutput, Tensor | None]]:
        """Return batches with their views and what the line classifier says of them."""
        adversary = next((term for term in self.terms.values() if isinstance(term, Invariance)), None)
        for batch, view in self.views(batches):
            yield batch, view, None if adversary is None else adversary.tell(view.invariant)


def _require_fit(data: PairData, loss: Loss[PairPrediction]) -> None:
    require_loss(loss, offered_by(PairPrediction), "prism")
    if loss.balances and data.positives is not None:
        raise RequestError(
            f"data.positives={list(data.positives)} lets the sampler balance the classes, and this loss balances them, "
            "too, which corrects twice: type data.positives=null, or loss=bce."
        )
