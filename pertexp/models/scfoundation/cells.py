"""Input of scFoundation: log1p(CP10k) of its genes in their order, followed by two depths."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from pertexp.config.errors import DataError, MismatchError
from pertexp.data.screens.design import Design

log = logging.getLogger(__name__)

RELEASED = {"count": 19264, "first": "A1BG", "last": "ZZZ3"}


@dataclass(frozen=True)
class GeneOrder:
    """The genes of the network, in the order of its positions."""

    genes: tuple[str, ...]

    @classmethod
    def read(cls, path: str | Path, n_genes: int) -> "GeneOrder":
        """Read `OS_scRNA_gene_index.19264.tsv`: columns `gene_name` and `index`.

        Raises
        ------
        DataError
            Where it is missing, of another length than the checkpoint, doubled, or out of order.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(
                f"no file {path}: type model.embedding.genes=OS_scRNA_gene_index.19264.tsv, of scFoundation."
            )
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        if list(table.columns[:2]) != ["gene_name", "index"]:
            raise DataError(f"{path} has columns {', '.join(table.columns[:4])}: expected gene_name and index.")
        genes, index = table["gene_name"].tolist(), table["index"].tolist()
        if len(genes) != n_genes:
            raise DataError(f"{path} names {len(genes)} genes, the checkpoint knows {n_genes}: they belong together.")
        if len(set(genes)) != len(genes):
            raise DataError(f"{path} names a gene twice: take the list as scFoundation gives it.")
        moved = next((row for row, number in enumerate(index) if number != str(row)), None)
        ends = (genes[0], genes[-1]) != (RELEASED["first"], RELEASED["last"]) and n_genes == RELEASED["count"]
        if moved is not None or ends:
            where = f"row {moved + 1} has index {index[moved]}" if moved is not None else f"it begins with {genes[0]}"
            raise DataError(f"{path} is out of order ({where}): take the list as scFoundation gives it.")
        return cls(tuple(genes))

    def columns(self, genes: list[str]) -> np.ndarray:
        """Return `[G]` position of each gene, -1 where the network does not know it."""
        return pd.Index(self.genes).get_indexer(pd.Index(genes)).astype(np.int64)


def cell_values(design: Design, cells: np.ndarray, order: GeneOrder, highres: float) -> sp.csr_matrix:
    """Input `[n, genes + 2]` of some cells: log1p(CP10k), T = log10(depth) + highres, S = log10(depth).

    Genes of the network that the screen does not measure are zero, and their number is reported; genes that it does
    not know are left out.

    Raises
    ------
    MismatchError
        Where the screen has no depths, or shares no gene with the network.
    """
    screen = design.screen
    if screen.depth is None or screen.scale != "log1p":
        raise MismatchError(
            "model/embedding=scfoundation needs log1p values and the depth of every cell: type data.depth_key=<column "
            "with total counts> (and data.normalize=where_counts)."
        )
    column = order.columns(screen.genes.tolist())
    known = column >= 0
    if not known.any():
        raise MismatchError(
            "no gene of the screen is known to scFoundation: name symbols with data.gene_symbol_key=..."
        )
    log.info(
        "scFoundation: %d of its %d genes are measured, the others are zero; %d measured genes are unknown to it.",
        known.sum(), len(order.genes), (~known).sum(),
    )  # fmt: skip
    fitted = design.cells("train", "control")
    values = screen.expression[cells][:, known].tocsr()
    lift = sp.csr_matrix(
        (np.ones(int(known.sum()), dtype=np.float32), (np.arange(int(known.sum())), column[known])),
        shape=(int(known.sum()), len(order.genes)),
    )
    values = (values @ lift).tocsr()
    # What we normalised is at the median depth; what a file brought as log1p is taken to be per ten thousand already.
    scale = 1e4 / np.median(screen.depth[fitted]) if design.notes.get("normalised_at_median_depth") else 1.0
    values.data = np.log1p(np.expm1(values.data) * scale).astype(np.float32)
    source = np.log10(np.maximum(screen.depth[cells], 1.0))
    return sp.hstack([values, sp.csr_matrix(np.stack([source + highres, source], axis=1).astype(np.float32))]).tocsr()
