"""The LightningModule that trains GEARS and predicts with it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import MeanAbsoluteError

from pertexp.config.errors import DataError, MismatchError, RequestError, nearest
from pertexp.config.validate import typed
from pertexp.data.screens.batch_layouts import require_fields
from pertexp.data.screens.batches import Batch
from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import Units, membership
from pertexp.data.screens.screen import JOIN, members
from pertexp.losses.contract import Loss, ProfilePrediction, offered_by, require_loss
from pertexp.losses.squared_error import SquaredError
from pertexp.metrics.interactions import interaction_scores
from pertexp.metrics.output import Output, Profile
from pertexp.models.gears.embedding import CellEmbeddingSource
from pertexp.models.gears.graphs import as_sets, coexpression_graph, perturbation_graph
from pertexp.models.gears.network import GearsNetwork, Sets, distinct_rows, first_apart
from pertexp.models.gears.options import GearsOptions
from pertexp.models.protocols import ScreenSchema
from pertexp.models.scfoundation.embedding import ControlEmbedding
from pertexp.models.vocabulary import Vocabulary
from pertexp.nn.graph import Graph
from pertexp.training.schedulers import Scheduler, configured, constant

FIELDS = frozenset({"counts", "perturbation", "context", "control", "control_row"})  # of a batch
SETS_AT_ONCE = 256
NAMES = ("genes", "contexts", "nodes", "perturbations")
CELLS_OF_RELEASED = 300  # the released `predict` averages a batch of 300 controls, whose first cell alone is mixed


class GEARS(lightning.LightningModule):
    """Control cell + δ(perturbation set) = perturbed cell.

    Parameters
    ----------
    network
        What yields δ.
    options, loss, optimizer, scheduler
        As configured.
    genes, contexts, nodes
        Names of the G measured genes, of the contexts, and of the P genes that can be perturbed.
    perturbations
        Canonical names of the screen, control first.
    control
        `[C, G]` mean of control cells by context: what δ is added to for a profile.
    counted
        `[P, G]` genes that count in the loss of each perturbation of the screen; all where None.
    embedding
        Gene embeddings of control cells; None where the network has its own.
    """

    predicts: ClassVar[Output] = Profile("mean_of_log1p")
    control: Tensor
    counted: Tensor | None

    def __init__(
        self,
        network: GearsNetwork,
        options: GearsOptions,
        loss: Loss[ProfilePrediction],
        optimizer: Callable[..., Optimizer],
        *,
        genes: Sequence[str],
        contexts: Sequence[str],
        nodes: Sequence[str],
        perturbations: Sequence[str],
        control: Tensor,
        counted: Tensor | None = None,
        embedding: ControlEmbedding | None = None,
        scheduler: Scheduler = constant,
    ) -> None:
        super().__init__()
        self.network = network
        self.options = options
        self.loss = loss
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.val_mae = MeanAbsoluteError()
        self.genes, self.contexts = tuple(genes), tuple(contexts)
        self.nodes, self.perturbations = tuple(nodes), tuple(perturbations)
        self.sets = as_sets([members(name) for name in perturbations], self.nodes, options.signs)
        self.register_buffer("control", control)
        self.register_buffer("counted", counted, persistent=False)
        self.embedding = embedding
        mode = None if embedding is None else embedding.mode
        uncertainty = network.uncertainty_w is not None
        spec = {"options": asdict(options), "uncertainty": uncertainty, "embedding": mode}
        self.register_buffer("spec", _encoded({**spec, **{key: list(getattr(self, key)) for key in NAMES}}))

    @classmethod
    def from_data(
        cls,
        data: ScreenData,
        loss: Loss[ProfilePrediction],
        optimizer: Callable[..., Optimizer],
        scheduler: Scheduler = constant,
        embedding: CellEmbeddingSource | None = None,
        **options: Any,
    ) -> "GEARS":
        """Build the graphs from training rows and prior knowledge, and the network on them.

        Raises
        ------
        MismatchError
            Where the data are not paired log1p cells, or the loss is another's.
        """
        chosen = typed(GearsOptions, options, "model")
        annotation = _require_fit(data, loss)(data.design.screen)
        design = data.design
        scope = chosen.scope
        given = None if embedding is None else embedding(design)
        _require_embedding(given, chosen)
        nodes, ontology = perturbation_graph(design, annotation, chosen.ontology, chosen.signs)
        network = GearsNetwork(
            None if scope == "none" else coexpression_graph(design, chosen.coexpress),
            ontology,
            n_genes=design.screen.n_genes,
            width=chosen.hidden_size,
            coexpress_layers=chosen.coexpress.layers,
            perturbation_layers=chosen.ontology.layers,
            scope=scope,
            uncertainty="log_variance" in loss.needs,
            embedded="none" if given is None else given.embedded,
        )
        return cls(
            network,
            chosen,
            loss,
            optimizer,
            genes=design.screen.genes.tolist(),
            contexts=design.screen.contexts,
            nodes=nodes,
            perturbations=design.screen.perturbations,
            control=torch.from_numpy(design.training.control).float(),
            counted=_expressed(design) if "counted" in loss.needs else None,
            embedding=given,
            scheduler=scheduler,
        )

    @classmethod
    def from_checkpoint(
        cls,
        weights: Mapping[str, Tensor],
        schema: ScreenSchema | None = None,  # noqa: ARG003
        **options: Any,  # noqa: ARG003
    ) -> "GEARS":
        """Return the trained module from the `state_dict` of a checkpoint alone, without data: to predict with.

        Names, graphs, options and control cells lie in the weights; `schema` and `options`, which other models are
        restored by, are not looked at.

        Raises
        ------
        DataError
            Where the weights are not those of GEARS.
        """
        spec = _decoded(weights)
        chosen = typed(GearsOptions, spec["options"], "model")
        ontology = _graph_in(weights, "network.ontology")
        if ontology is None:
            raise DataError("these weights of GEARS hold no perturbation graph: name a checkpoint that pertexp wrote.")
        embedding = None
        if spec["embedding"] is not None:
            held = [weights[f"embedding.{name}"] for name in ("reference", "reference_context")]
            embedding = ControlEmbedding(held[0].clone(), held[1].clone(), spec["embedding"])
        network = GearsNetwork(
            _graph_in(weights, "network.coexpression"),
            ontology,
            n_genes=len(spec["genes"]),
            width=chosen.hidden_size,
            coexpress_layers=chosen.coexpress.layers,
            perturbation_layers=chosen.ontology.layers,
            scope=chosen.scope,
            uncertainty=spec["uncertainty"],
            embedded="none" if embedding is None else embedding.embedded,
        )
        control = torch.empty_like(weights["control"])
        names = {key: spec[key] for key in NAMES}
        module = cls(network, chosen, SquaredError(), torch.optim.Adam, control=control, embedding=embedding, **names)
        module.load_state_dict({k: v for k, v in weights.items() if not k.startswith("embedding.encoder.")})
        return module.eval()

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of perturbations, contexts, and of the genes that can be perturbed; the graph is their embedding."""
        return Vocabulary(self.perturbations, self.contexts, self.nodes, np.empty((len(self.nodes), 0)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Read the pooled cells anew where their encoder is trained: in place, so in the weights just taken, too."""
        if self.embedding is not None:
            self.embedding.refresh()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the loss of a batch of pairs."""
        loss = self._loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=False, prog_bar=True, batch_size=len(batch["control"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Log the loss over validation batches, weighted by cells, and the mean absolute error over cells and genes."""
        predicted, log_variance = self._predicted(batch)
        cells, loss = len(batch["control"]), self._loss_of(batch, predicted, log_variance)
        self.log("val/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=cells, sync_dist=True)
        self.val_mae.update(predicted, batch["counts"])
        self.log("val/mae", self.val_mae, on_step=False, on_epoch=True)

    def _loss(self, batch: Batch) -> Tensor:
        return self._loss_of(batch, *self._predicted(batch))

    def _predicted(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Perturbed cells `[B, G]` as predicted from their control cells, and their log variances, if any."""
        given, variant = self._gene_embedding(batch)
        rows = distinct_rows(batch["perturbation"], variant)
        delta, log_variance = self.network(self._sets_of(rows.set), rows.weight, rows.variant, given)
        predicted = batch["control"] + delta[rows.of_cell]
        return predicted, None if log_variance is None else log_variance[rows.of_cell]

    def _loss_of(self, batch: Batch, predicted: Tensor, log_variance: Tensor | None) -> Tensor:
        perturbation = batch["perturbation"]
        control = self.control[batch["context"]]
        counted = None if self.counted is None else self.counted[perturbation]
        return self.loss.batch_loss(
            ProfilePrediction(predicted, batch["counts"], control, perturbation, counted, log_variance)
        )

    def _gene_embedding(self, batch: Batch) -> tuple[Tensor | None, Tensor]:
        """Embeddings from outside, if any, and the variant of the gene side that each cell sees `[B]`."""
        if self.embedding is not None:
            outside: tuple[Tensor, Tensor] = self.embedding(batch["control_row"])
            return outside
        perturbation = batch["perturbation"]
        released = self.network.scope == "first_cell"
        return None, first_apart(perturbation) if released else torch.zeros_like(perturbation)

    def _sets_of(self, perturbation: Tensor) -> Sets:
        self.sets = self.sets.to(perturbation.device)
        return self.sets.take(perturbation)

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the group `optimizer`, with a schedule of `scheduler`; encoders step less."""
        encoder = [] if self.embedding is None else list(self.embedding.parameters())
        inside = {id(parameter) for parameter in encoder}
        own = [parameter for parameter in self.parameters() if id(parameter) not in inside]
        groups = [{"params": own}, *([{"params": encoder}] if encoder else [])]
        optimizer = self.make_optimizer(groups)
        for group in optimizer.param_groups[1:]:
            group["lr"] *= self.options.encoder_lr_factor
        return configured(optimizer, self.make_scheduler)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step of the optimizer, then put every embedding back into the unit ball."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.network.project_()

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` profiles: the mean control cell of the context plus δ."""
        delta, _ = self._effects(self.sets, units.perturbation, units.context)
        return self._profiles(delta, units.context)

    def units_named(self, names: Sequence[str], context: str | None) -> Units:
        """Return units of canonical names in a context of the model, also of sets that were not in the screen.

        Raises
        ------
        RequestError
            Where a member is not in the perturbation graph, or the context is unknown.
        """
        number = self._context(context)
        self.perturbations = tuple(dict.fromkeys((*self.perturbations, *names)))
        self.sets = as_sets([members(name) for name in self.perturbations], self.nodes, self.options.signs)
        place = {name: row for row, name in enumerate(self.perturbations)}
        return Units(np.array([place[name] for name in names], dtype=np.int64), np.full(len(names), number))

    def predict_sets(self, sets: Sequence[Sequence[str]], context: str | None = None) -> Any:
        """Predict the profiles of any sets of genes, `[["A"], ["A", "B"]]`, as AnnData with the measured genes' names.

        An empty set is control. With an uncertainty head the layer `sd` holds √e^v (for `loss.uncertainty=gaussian`:
        of one cell less one control cell), and obs `confidence` e^(−mean v), by which the released package ranks.

        Parameters
        ----------
        sets
            Any number of genes each, measured or not.
        context
            Whose control cells the effect is added to; may be left out where there is one context.

        Raises
        ------
        RequestError
            Where a gene is not in the perturbation graph, or the context is unknown.
        """
        import anndata

        number = self._context(context)
        sets = [_as_set(own) for own in sets]
        asked = as_sets(sets, self.nodes, self.options.signs)
        delta, log_variance = self._effects(asked, np.arange(len(asked)), np.full(len(asked), number))
        names = [JOIN.join(own) or "control" for own in sets]
        index = pd.Index([f"set{position}" for position in range(len(names))])
        obs = pd.DataFrame({"perturbation": names, "context": self.contexts[number]}, index=index)
        layers = {}
        if log_variance is not None:
            obs["confidence"] = np.exp(-log_variance.mean(axis=1))
            layers["sd"] = np.exp(log_variance / 2)
        return anndata.AnnData(
            X=self._profiles(delta, np.full(len(names), number)),
            obs=obs,
            var=pd.DataFrame(index=pd.Index(self.genes, dtype=str)),
            layers=layers,
            uns={"scale": "log1p", "model": self.options.name},
        )

    def interaction(
        self, first: str, second: str, genes: Sequence[str] | None = None, context: str | None = None
    ) -> dict[str, float]:
        """Scores of the genetic interaction that the model predicts of a pair; see `interaction_scores`.

        `genes` restricts the fit, as to those of high mean expression.
        """
        if first == second:
            raise RequestError(f"{first} does not interact with itself: name two genes.")
        asked = as_sets([[first], [second], [first, second]], self.nodes, self.options.signs)
        number = self._context(context) if self._depends_on_context else 0
        delta, _ = self._effects(asked, np.arange(3), np.full(3, number))
        columns = np.arange(len(self.genes)) if genes is None else self._columns(genes)
        return interaction_scores(*delta[:, columns])

    def _columns(self, genes: Sequence[str]) -> np.ndarray:
        place = {gene: number for number, gene in enumerate(self.genes)}
        unknown = [gene for gene in genes if gene not in place]
        if unknown:
            raise RequestError(f"gene {unknown[0]} is not measured: {nearest(unknown[0], self.genes)}")
        return np.array([place[gene] for gene in genes], dtype=np.int64)

    def _context(self, context: str | None) -> int:
        if context is None and len(self.contexts) == 1:
            return 0
        if context not in self.contexts:
            raise RequestError(
                f"context={context} is not one of the {len(self.contexts)} of this model: "
                f"name one; {nearest(str(context), self.contexts)}"
            )
        return self.contexts.index(context)

    def _profiles(self, delta: np.ndarray, context: np.ndarray) -> np.ndarray:
        profiles: np.ndarray = self.control.double().cpu().numpy()[context] + delta
        return profiles.clip(min=0) if self.options.clip else profiles

    @property
    def _depends_on_context(self) -> bool:
        """Whether δ differs from context to context, as embeddings of their control cells do."""
        return self.embedding is not None and not self.embedding.is_static

    @torch.no_grad()
    def _effects(self, sets: Sets, rows: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """δ `[R, G]` and v `[R, G]` of some of the sets, float64; each distinct one is worked out once."""
        was_training = self.training
        self.eval()
        if not self._depends_on_context:
            context = np.zeros_like(context)
        pairs, place = np.unique(np.stack([context, rows]), axis=1, return_inverse=True)
        parts = []
        for number in np.unique(pairs[0]):
            distinct = pairs[1][pairs[0] == number]
            for some in np.array_split(distinct, -(-distinct.size // SETS_AT_ONCE)):
                own = sets.to(self.device).take(torch.from_numpy(some).to(self.device))
                parts.append(self._mean_over_cells(own, int(number)))
        self.train(was_training)
        delta = torch.cat([own for own, _ in parts]).double().cpu().numpy()[place.ravel()]
        heads = [head for _, head in parts if head is not None]
        return delta, torch.cat(heads).double().cpu().numpy()[place.ravel()] if heads else None

    def _mean_over_cells(self, sets: Sets, context: int) -> tuple[Tensor, Tensor | None]:
        """δ and v of a batch of sets, averaged over control cells: those of the pool, or as the package averages."""
        given = None if self.embedding is None else self.embedding.for_prediction(context)
        share = torch.ones(self.network.variants) if given is None else torch.ones(given.shape[1])
        if given is None and self.network.variants > 1:
            share = torch.tensor([1.0, CELLS_OF_RELEASED - 1])
        share = share / share.sum()
        ones = torch.ones(len(sets), device=self.device)
        total: Tensor | None = None
        spread: Tensor | None = None
        for number, weight in enumerate(share.tolist()):
            variant = torch.zeros_like(ones, dtype=torch.int64) + (number if given is None else 0)
            one = None if given is None else given[:, number : number + 1]
            delta, head = self.network(sets, ones, variant, one)
            total = weight * delta if total is None else total + weight * delta
            if head is not None:
                spread = weight * head if spread is None else spread + weight * head
        assert total is not None  # noqa: S101
        return total, spread


def _as_set(genes: Sequence[str]) -> list[str]:
    """Return genes of one perturbation, each once, in the order of names."""
    if isinstance(genes, str):
        raise RequestError(f'{genes} is one gene, and a perturbation is a set of them: type [["{genes}"]].')
    return sorted(set(genes))


def _encoded(spec: dict[str, Any]) -> Tensor:
    """Return plain values as bytes of JSON: which a state dict can hold, and which nothing has to be unpickled for."""
    return torch.frombuffer(bytearray(json.dumps(spec).encode()), dtype=torch.uint8)


def _decoded(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    try:
        spec: dict[str, Any] = json.loads(bytes(weights["spec"].tolist()).decode())
    except (KeyError, ValueError) as fault:
        raise DataError(f"these are no weights of GEARS ({fault}): name a checkpoint of model=gears.") from fault
    return spec


def _graph_in(weights: Mapping[str, Tensor], name: str) -> Graph | None:
    """Return a graph by the buffers of its propagation; None where there is none."""
    if f"{name}.source" not in weights:
        return None
    sizes = {"network.coexpression": "network.indv_w1", "network.ontology": "network.pert_emb.weight"}
    source, target, weight = (weights[f"{name}.{part}"] for part in ("source", "target", "weight"))
    return Graph(source, target, weight, len(weights[sizes[name]]))


def _expressed(design: Design) -> Tensor:
    """Return `[P, G]` genes that any cell of a training or validation perturbation holds; all genes for the others."""
    screen = design.screen
    known = design.cells("train", "val")
    group = np.where(known, screen.perturbation, -1)
    held = membership(group, len(screen.perturbations)).dot(screen.expression)  # log1p values are never negative
    counted = held.toarray() > 0
    counted[np.setdiff1d(np.arange(len(screen.perturbations)), np.unique(group[known]))] = True
    counted[0] = True
    return torch.from_numpy(counted)


def _require_fit(data: ScreenData, loss: Loss[ProfilePrediction]) -> Any:
    """Return the annotation source of data that GEARS can be trained on."""
    require_loss(loss, offered_by(ProfilePrediction), "gears")
    require_fields(data.batches, FIELDS, "gears", ["matched_controls"])
    if data.annotation is None:
        raise MismatchError("model=gears needs gene sets for its perturbation graph: type data/annotation=go.")
    scale = data.design.screen.scale
    if scale != "log1p":
        instead = "type data.normalize=where_counts" if scale == "counts" else "choose data of single cells"
        raise MismatchError(
            f"model=gears needs log1p of normalised counts, but data={data.name} is on the scale {scale}: {instead}."
        )
    return data.annotation


def _require_embedding(given: ControlEmbedding | None, options: GearsOptions) -> None:
    if given is None:
        return
    if given.width != options.hidden_size:
        raise MismatchError(
            f"model/embedding has width {given.width} and model.hidden_size={options.hidden_size}: "
            f"type model.hidden_size={given.width}."
        )
    if options.scope == "first_cell":
        raise MismatchError(
            "embeddings that differ from cell to cell need the co-expression graph in every cell, or in none: type "
            "model.coexpress_scope=all model.reference_mode=false."
        )
