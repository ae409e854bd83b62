"""The LightningModule that trains the NB-GLM and predicts with it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import MeanAbsoluteError

from pertexp.config.errors import MismatchError, RequestError
from pertexp.config.validate import NO_OTHERS, typed
from pertexp.data.screens.batch_layouts import ROW_FIELDS, require_fields
from pertexp.data.screens.batches import Batch
from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import Units
from pertexp.losses.contract import CountPrediction, Loss, offered_by, require_loss
from pertexp.losses.counts import nb
from pertexp.metrics.output import Output, Profile
from pertexp.models.learned_scalar import LearnedScalar
from pertexp.models.nbglm.initial import closed_form, facts_of, start_from
from pertexp.models.nbglm.network import Bound, Facts, NBGLMNetwork
from pertexp.models.nbglm.recovery import planted_recovery
from pertexp.models.protocols import ScreenSchema
from pertexp.models.samples import sampled_cells
from pertexp.models.vocabulary import Vocabulary
from pertexp.nn.count_sampling import Sampler, sample_counts
from pertexp.training.proximal import adam_step_size, shrink_columns_, soft_threshold_
from pertexp.training.schedulers import Scheduler, configured, constant

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Regularization:
    """λ₁‖K‖₁ + λ₂‖K‖²_F (sums), added to a data loss that is a mean over cells and genes.

    `l1` holds for the full kernel; with a rank, `group` penalises Σ_j ‖A_j‖₂ + ‖B_j‖₂ over columns instead. Both are
    proximal steps, so entries and columns become exactly zero.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    l1: float = 0.0
    l2: float = 0.0
    group: float = 0.0


@dataclass(frozen=True)
class SizeFactor:
    """Whether log s is the offset of a cell, in training and in sampling."""

    __pydantic_config__: ClassVar = NO_OTHERS

    use_sf: bool = True


@dataclass(frozen=True)
class Sampling:
    """How cells are drawn from the mean.

    `heterogeneity` is r₀ of the per-cell factor L ~ Gamma(r₀, r₀), or None. `cells_per_unit` > 0 makes a run write
    that many sampled cells for each tested perturbation.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    sampler: Sampler = "nb"
    heterogeneity: float | None = None
    cells_per_unit: int = 0


@dataclass(frozen=True)
class Initialisation:
    """`closed_form`: the bilinear ridge with this λ (None: chosen on validation units); `zero`: K = 0, b = 0."""

    __pydantic_config__: ClassVar = NO_OTHERS

    kind: Literal["closed_form", "zero"] = "closed_form"
    ridge: float | None = None


@dataclass(frozen=True)
class NBGLMOptions:
    """Everything that `model.*` sets; the group's YAML file says what each is for."""

    __pydantic_config__: ClassVar = NO_OTHERS

    name: str = "nbglm"
    rank: int | None = None
    bound: Bound = "tanh"
    alpha: LearnedScalar = field(default_factory=lambda: LearnedScalar(value=5.0))
    dispersion: Literal["moments", "learned"] = "moments"
    cell_cycle: bool = False
    pseudo_count: float = 0.5
    start: Initialisation = field(default_factory=Initialisation)
    regularization: Regularization = field(default_factory=Regularization)
    size_factor: SizeFactor = field(default_factory=SizeFactor)
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise RequestError(f"model.rank={self.rank}: expected at least 1, or null for the full kernel.")
        if not (0 < self.alpha.value < math.inf):
            raise RequestError(f"model.alpha.value={self.alpha.value}: expected a positive bound on |log fold change|.")
        _refuse_negative("model.pseudo_count", self.pseudo_count, "expected a finite number ≥ 0.")
        if self.start.ridge is not None:
            _refuse_negative("model.start.ridge", self.start.ridge, "expected λ ≥ 0, or null to choose it.")
        _refuse_penalties(self.rank, self.regularization)
        _refuse_sampling(self.sampling)


def _refuse_negative(name: str, value: float, expected: str) -> None:
    if not (0 <= value < math.inf):
        raise RequestError(f"{name}={value}: {expected}")


def _refuse_penalties(rank: int | None, penalty: Regularization) -> None:
    for name in ("l1", "l2", "group"):
        _refuse_negative(f"model.regularization.{name}", getattr(penalty, name), "expected a finite weight ≥ 0.")
    if rank is not None and penalty.l1 > 0:
        raise RequestError(
            f"model.rank={rank} and model.regularization.l1={penalty.l1} were both given, but a "
            "penalty on the entries of K does not act on its factors: type model.regularization.group=... "
            "instead, or model.rank=null."
        )
    if rank is None and penalty.group > 0:
        raise RequestError(
            f"model.regularization.group={penalty.group} penalises the columns of A and B: type model.rank=... as well."
        )


def _refuse_sampling(sampling: Sampling) -> None:
    if sampling.cells_per_unit < 0:
        raise RequestError(
            f"model.sampling.cells_per_unit={sampling.cells_per_unit}: expected a number of cells, or 0 for none."
        )
    if sampling.heterogeneity is not None and not (0 < sampling.heterogeneity < math.inf):
        raise RequestError(
            f"model.sampling.heterogeneity={sampling.heterogeneity}: expected the shape r₀ > 0 of a Gamma factor, "
            "such as 50, or null for none."
        )


class NBGLM(lightning.LightningModule):
    """Low-rank NB-GLM; trained by any loss on counts, predicts mean profiles and samples cells."""

    predicts: ClassVar[Output] = Profile("log1p_of_means")
    vocabulary: Vocabulary

    def __init__(
        self,
        network: NBGLMNetwork,
        options: NBGLMOptions,
        loss: Loss[CountPrediction],
        optimizer: Callable[..., Optimizer],
        scheduler: Scheduler = constant,
    ) -> None:
        super().__init__()
        self.network = network
        self.options = options
        self.loss = loss
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.val_mae = MeanAbsoluteError()

    @classmethod
    def from_checkpoint(
        cls, weights: Mapping[str, Tensor], schema: ScreenSchema | None = None, **options: Any
    ) -> "NBGLM":
        """Return the trained model from the contents of a checkpoint alone: to predict and to draw cells with.

        Parameters
        ----------
        weights
            The state dict.
        schema
            Names, and the embedding of targets that were not in the screen; None: it is not asked by name.
        options
            Those that it was trained with.
        """
        chosen = typed(NBGLMOptions, options, "model")
        own = {name.removeprefix("network."): tensor for name, tensor in weights.items()}
        facts = Facts(
            **{name: own[name] for name in ("gene_embedding", "perturbation_embedding", "log_control_mean")},
            unseen=own["unseen"],
            theta=own["log_theta"].exp(),
            phase_share=own["phase_share"],
        )
        model = cls(build_network(facts, chosen).float(), chosen, nb, torch.optim.AdamW)
        model.load_state_dict(weights)
        if schema is not None:
            model.vocabulary = schema.vocabulary
        return model.eval()

    def units_named(self, names: Sequence[str], context: str) -> Units:
        """Make units of perturbations by canonical name, those not in the screen from their members' embeddings.

        Raises
        ------
        DataError
            Where a member has no embedding.
        """
        vocabulary = self.vocabulary
        known = {name: index for index, name in enumerate(vocabulary.perturbations)}
        new = [name for name in names if name not in known]
        if new:
            rows = torch.from_numpy(vocabulary.rows(new)).to(self.network.perturbation_embedding)
            self.network.perturbation_embedding = torch.cat([self.network.perturbation_embedding, rows])
            self.vocabulary = replace(vocabulary, perturbations=(*vocabulary.perturbations, *new))
            known |= {name: len(known) + position for position, name in enumerate(new)}
        place = np.full(len(names), vocabulary.context(context))
        return Units(np.array([known[name] for name in names], dtype=np.int64), place)

    @classmethod
    def from_data(
        cls,
        data: ScreenData,
        loss: Loss[CountPrediction],
        optimizer: Callable[..., Optimizer],
        scheduler: Scheduler = constant,
        **options: Any,
    ) -> "NBGLM":
        """Initialise on the training and control rows of a screen of counts.

        Raises
        ------
        MismatchError
            Where the data are not counts, the loss cannot train θ, or phases are wanted and absent.
        """
        chosen = typed(NBGLMOptions, options, "model")
        _require_fit(data, loss, chosen)
        design = data.design
        size_factor = design.size_factor if chosen.size_factor.use_sf else np.ones_like(design.size_factor)
        facts = facts_of(design, size_factor, chosen.pseudo_count, cell_cycle=chosen.cell_cycle)
        network = build_network(facts, chosen)
        if chosen.start.kind == "closed_form":
            start_from(network, closed_form(design, size_factor, facts, chosen.pseudo_count, chosen.start.ridge))
        model = cls(network.float(), chosen, loss, optimizer, scheduler)
        model.vocabulary = Vocabulary.of(design)
        return model

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return data loss plus λ₂‖K‖²; the other penalties are proximal steps."""
        data_loss = self._data_loss(batch)
        self.log("train/loss", data_loss, on_step=True, on_epoch=False, prog_bar=True)
        weight = self.options.regularization.l2
        return data_loss + weight * self.network.kernel.square().sum() if weight else data_loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Log the data loss over validation rows, weighted by cells, and the mean absolute error of their profiles.

        The error is that of the mean counts of a cell; rows and genes have equal weight.
        """
        cells, log_mu = batch["cells"], self._log_mean(batch)
        loss, n_cells = self._mean_loss(batch, log_mu), int(cells.sum())
        self.log("val/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=n_cells, sync_dist=True)
        self.val_mae.update(log_mu.exp() / cells.unsqueeze(1), batch["counts"] / cells.unsqueeze(1))
        self.log("val/mae", self.val_mae, on_step=False, on_epoch=True)

    def _log_mean(self, batch: Batch) -> Tensor:
        """Return `[B, G]` log of the expected counts of every row."""
        offset = batch["log_size"] if self.options.size_factor.use_sf else batch["cells"].log()
        log_mean: Tensor = self.network(batch["perturbation"], batch["context"], batch["phase"], offset)
        return log_mean

    def _data_loss(self, batch: Batch) -> Tensor:
        """Return the mean over cells and genes."""
        return self._mean_loss(batch, self._log_mean(batch))

    def _mean_loss(self, batch: Batch, log_mu: Tensor) -> Tensor:
        theta_fixed = self.options.dispersion != "learned"
        prediction = CountPrediction(batch["counts"], log_mu, self.network.theta, batch["cells"], theta_fixed)
        return self.loss.batch_loss(prediction)

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the group `optimizer` over all parameters, with a schedule of `scheduler`."""
        return configured(self.make_optimizer(self.parameters()), self.make_scheduler)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step of the optimizer, then the proximal step of the penalty on the kernel."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        penalty = self.options.regularization
        if not (penalty.l1 or penalty.group):
            return
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        for factor in self.network.factors.values():
            step = adam_step_size(inner, factor)
            if penalty.l1:
                soft_threshold_(factor, penalty.l1 * step)
            else:
                shrink_columns_(factor, penalty.group * step)

    @torch.no_grad()
    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` profiles: log1p of expected counts at the median depth."""
        return torch.log1p(self._mean(units)).double().cpu().numpy()

    @torch.no_grad()
    def sample(self, units: Units, size_factor: np.ndarray, seed: int) -> np.ndarray:
        """Return counts `[U, G]`, one cell a unit, at size factors `[U]`."""
        generator = torch.Generator(self.device).manual_seed(seed)
        size = torch.as_tensor(size_factor, dtype=torch.float32, device=self.device)
        mu = self._mean(units) * (size.unsqueeze(1) if self.options.size_factor.use_sf else 1.0)
        chosen = self.options.sampling
        theta = self.network.theta.expand_as(mu)
        return sample_counts(mu, theta, chosen.sampler, generator, chosen.heterogeneity).cpu().numpy()

    def samples(self, design: Design, seed: int) -> "AnnData | None":
        """Return AnnData of `sampling.cells_per_unit` drawn cells for each test unit; None where that is 0."""
        per_unit = self.options.sampling.cells_per_unit
        return sampled_cells(self.sample, design, per_unit, self.options.name, seed) if per_unit else None

    @torch.no_grad()
    def recovery(self, design: Design) -> dict[str, float]:
        """Return how well the truth that a simulator planted was found; see `planted_recovery`."""
        return planted_recovery(self.network, design)

    def _mean(self, units: Units) -> Tensor:
        perturbation = torch.from_numpy(units.perturbation).to(self.device)
        return self.network.mean(perturbation, torch.from_numpy(units.context).to(self.device))


def build_network(facts: Facts, options: NBGLMOptions) -> NBGLMNetwork:
    """Return the network that the options describe, at K = 0."""
    if options.rank is not None:
        largest = min(facts.gene_embedding.shape[1], facts.perturbation_embedding.shape[1])
        if options.rank > largest:
            lightning.pytorch.utilities.rank_zero_info(
                f"model.rank={options.rank} exceeds min(dg, dp)={largest}: further columns start at zero."
            )
    return NBGLMNetwork(
        facts,
        rank=options.rank,
        bound=options.bound,
        alpha=options.alpha,
        cell_cycle=options.cell_cycle,
        learn_theta=options.dispersion == "learned",
    )


def _require_fit(data: ScreenData, loss: Loss[CountPrediction], options: NBGLMOptions) -> None:
    if data.design.screen.scale != "counts":
        raise MismatchError(
            f"model=nbglm needs counts, but data={data.name} is on the scale {data.design.screen.scale}: name raw "
            "counts with data.layer=... data.scale=counts, or type data.recover_counts=true where log1p values came "
            "from counts (and data.normalize=false)."
        )
    require_fields(data.batches, ROW_FIELDS, "nbglm", ["cells", "pseudobulk"])
    require_loss(loss, offered_by(CountPrediction), "nbglm")
    if options.dispersion == "learned" and not loss.identifies_theta:
        raise MismatchError(
            f"loss={loss.name} has no minimum in θ, so model.dispersion=learned would run away: "
            "type loss=nb or model.dispersion=moments."
        )
    if options.cell_cycle and data.design.screen.phase is None:
        raise MismatchError(
            "model.cell_cycle=true needs phases: type data.phase_key=<column of obs> or data.phase_genes=<gene list>."
        )
