"""Gene embeddings that depend on the control cell: each cell is read once, and cached while the encoder is frozen."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from pertexp.config.errors import RequestError
from pertexp.data.screens.design import Design
from pertexp.models.scfoundation.cells import GeneOrder, cell_values
from pertexp.models.scfoundation.checkpoint import Part, read_released
from pertexp.nn.mae_autobin import MaeAutobin
from pertexp.runs.record import whole

log = logging.getLogger(__name__)

Mode = Literal["v1", "v2"]
Cache = Literal["none", "pool", "all", "static"]
REPORT_EVERY = 200
EVERY_CONTEXT = -1


class CellReader:
    """Encodes control cells one at a time, so that an embedding does not depend on the other cells of a batch.

    Parameters
    ----------
    network
        The encoder; gradients flow into it where it is being trained.
    values
        `[n, genes + 2]` its input for every control cell.
    column
        `[G]` position of each measured gene in the network, -1 for one that it does not know: a row of zeros.
    folder
        Where embeddings are kept, a file a cell by checkpoint, cell and genes; nowhere where None.
    checkpoint
        What tells one checkpoint from another.
    """

    def __init__(
        self,
        network: MaeAutobin,
        values: sp.csr_matrix,
        column: np.ndarray,
        folder: str | None = None,
        checkpoint: str = "",
    ) -> None:
        self.network = network
        self.values = values
        self.folder = None if folder is None else Path(folder) / checkpoint
        self.passes = 0  # cells that went through the encoder
        self._column = torch.from_numpy(column)
        self._genes = hashlib.sha256(column.tobytes())

    def read(self, rows: np.ndarray) -> Tensor:
        """Return `[n, G, h]` of some control cells."""
        return torch.stack([self._read(int(row)) for row in rows])

    def kept(self, rows: np.ndarray, dtype: torch.dtype) -> Tensor:
        """Return the same without gradients, in the precision asked for; from the folder where it holds them."""
        with torch.no_grad():
            return torch.stack([self._kept(int(row)).to(dtype) for row in rows])

    def _read(self, row: int) -> Tensor:
        column = self._column.to(next(self.network.parameters()).device)
        values = torch.from_numpy(self.values[row].toarray()).to(column.device)
        self.passes += 1
        if self.passes % REPORT_EVERY == 0:
            log.info("scFoundation: %d control cells read", self.passes)
        genes: Tensor = self.network(values)[0]
        return genes[column.clamp_min(0)] * (column >= 0).unsqueeze(1)

    def _kept(self, row: int) -> Tensor:
        if self.folder is None:
            return self._read(row).cpu()
        path = self.folder / f"{self._name(row)}.npy"
        if path.is_file():
            return torch.from_numpy(np.load(path, allow_pickle=False))
        self.folder.mkdir(parents=True, exist_ok=True)
        found = self._read(row).cpu()
        with whole(path) as partial, partial.open("wb") as file:
            np.save(file, found.half().numpy())
        return found.half()

    def _name(self, row: int) -> str:
        """24 hex digits of the cell's values and the genes asked for."""
        cell, digest = self.values[row], self._genes.copy()
        digest.update(cell.indices.astype(np.int64).tobytes())
        digest.update(cell.data.astype(np.float32).tobytes())
        return digest.hexdigest()[:24]


@dataclass(frozen=True)
class TrainingCells:
    """Where the embeddings of training come from.

    Attributes
    ----------
    reader
        Reads a cell anew.
    table
        `[T, G, h]` embeddings that were read before training; None where cells are read anew.
    row_of_cell
        `[N]` for each row of the screen the row of `table` (or of the reader) that stands for it as a control.
    pool
        `[K]` the pooled cells, as rows of the reader.
    """

    reader: CellReader
    table: Tensor | None
    row_of_cell: np.ndarray
    pool: np.ndarray


class ControlEmbedding(nn.Module):
    """Embeddings of the control cells of a batch, and those to predict with.

    Parameters
    ----------
    reference
        `[K, G, h]` of the pooled control cells; of their mean alone (K = 1) where one embedding serves all cells.
    reference_context
        `[K]` their contexts; -1: of every context.
    mode
        `v1`: in place of the gene embedding; `v2`: of the positional embedding, too.
    training
        What to train with; None in a model that only predicts.
    encoder
        The network, where its weights are trained as well.
    """

    reference: Tensor
    reference_context: Tensor

    def __init__(
        self,
        reference: Tensor,
        reference_context: Tensor,
        mode: Mode,
        training: TrainingCells | None = None,
        encoder: MaeAutobin | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("reference", reference)
        self.register_buffer("reference_context", reference_context)
        self.mode = mode
        self.cells = training
        self.encoder = encoder

    @property
    def width(self) -> int:
        """The width h that the model has to have."""
        return int(self.reference.shape[2])

    @property
    def embedded(self) -> Literal["base", "both"]:
        """What it takes the place of in the network."""
        return "both" if self.mode == "v2" else "base"

    @property
    def is_static(self) -> bool:
        """Whether one embedding serves all cells."""
        return bool((self.reference_context == EVERY_CONTEXT).any())

    def forward(self, control_row: Tensor) -> tuple[Tensor, Tensor]:
        """Return `[G, V, h]` of the distinct control cells of a batch, and which of them each cell has `[B]`."""
        if self.is_static:
            return self.reference.float().transpose(0, 1), torch.zeros_like(control_row)
        assert self.cells is not None  # noqa: S101
        stand_in = torch.from_numpy(self.cells.row_of_cell[control_row.cpu().numpy()])
        rows, variant = torch.unique(stand_in, return_inverse=True)
        table = self.cells.table
        found = self._read(rows.numpy()) if table is None else table[rows]
        return found.to(control_row.device).float().transpose(0, 1), variant.to(control_row.device)

    def _read(self, rows: np.ndarray) -> Tensor:
        assert self.cells is not None  # noqa: S101
        with torch.set_grad_enabled(self.encoder is not None and torch.is_grad_enabled()):
            return self.cells.reader.read(rows)

    def for_prediction(self, context: int) -> Tensor:
        """Return `[G, V, h]` of the pooled control cells of a context."""
        own = (self.reference_context == context) | (self.reference_context == EVERY_CONTEXT)
        return self.reference[own].float().transpose(0, 1)

    @torch.no_grad()
    def refresh(self) -> None:
        """Read the pool anew where the encoder has been trained since."""
        if self.encoder is not None and self.cells is not None:
            self.reference.copy_(self.cells.reader.read(self.cells.pool))


@dataclass(frozen=True, kw_only=True)
class ScFoundation:
    """How control cells become gene embeddings.

    Attributes
    ----------
    path
        The user's own `models.ckpt`.
    genes
        The list of genes that belongs to it, `OS_scRNA_gene_index.19264.tsv`.
    mode
        `v1`: in place of the gene embedding; `v2`: of the positional embedding, too.
    finetune
        Train its weights as well; then every cell is read anew in every step.
    cache
        Of a frozen encoder. `all` control cells; a `pool` of cells, which stand in for the others of their context;
        `none`, every cell anew; `static`, the mean over the pool, one embedding a gene for all cells.
    pool
        Control cells a context for `pool` and `static`, and to predict with.
    folder
        Where embeddings are kept from run to run; in memory alone where None.
    part
        Of the checkpoint.
    highres
        T = S + highres: asks for the cell as if it were read deeper.
    seed
        Of the pool.
    """

    path: str
    genes: str
    mode: Mode = "v1"
    finetune: bool = False
    cache: Cache = "all"
    pool: int = 8
    folder: str | None = None
    part: Part = "gene"
    highres: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise RequestError(f"model.embedding.pool={self.pool}: expected at least one control cell a context.")
        if self.finetune and self.cache != "none":
            raise RequestError(
                f"model.embedding.finetune=true moves the weights that cache={self.cache} would keep the results of: "
                "type model.embedding.cache=none."
            )

    def __call__(self, design: Design) -> ControlEmbedding:
        """Read the checkpoint, and the cells that can be read before training."""
        network = read_released(self.path, self.part).requires_grad_(self.finetune)
        order = GeneOrder.read(self.genes, network.shape.n_genes)
        cells = np.flatnonzero(design.role == "control")
        context = design.screen.context[cells]
        reader = CellReader(
            network,
            cell_values(design, cells, order, self.highres),
            order.columns(design.screen.genes.tolist()),
            self.folder,
            f"{_fingerprint(self.path)}-{self.part}",
        )
        pool = self._pool(context)
        table = reader.kept(np.arange(len(cells)) if self.cache == "all" else pool, torch.float16)
        reference = table[pool] if self.cache == "all" else table
        kinds = torch.from_numpy(context[pool])
        if self.cache == "static":
            reference, kinds = reference.float().mean(dim=0, keepdim=True), torch.tensor([EVERY_CONTEXT])
        row_of_cell = np.full(design.screen.n_cells, -1, dtype=np.int64)
        row_of_cell[cells] = self._stand_ins(context, pool)
        kept = table if self.cache in ("all", "pool") else None
        training = TrainingCells(reader, kept, row_of_cell, pool)
        return ControlEmbedding(reference.clone(), kinds, self.mode, training, network if self.finetune else None)

    def _pool(self, context: np.ndarray) -> np.ndarray:
        """`pool` control cells of each context, as rows among the control cells, sorted."""
        rng = np.random.default_rng(self.seed)
        drawn = [rng.permutation(np.flatnonzero(context == each))[: self.pool] for each in np.unique(context)]
        return np.sort(np.concatenate(drawn))

    def _stand_ins(self, context: np.ndarray, pool: np.ndarray) -> np.ndarray:
        """For each control cell the row of the table that it gets: its own, or one of the pool of its context."""
        rows = np.arange(len(context))
        if self.cache == "pool":
            for each in np.unique(context):
                own, inside = np.flatnonzero(context == each), np.flatnonzero(context[pool] == each)
                rows[own] = inside[np.arange(own.size) % inside.size]
        return rows


def _fingerprint(path: str) -> str:
    """Return twelve hex digits of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
