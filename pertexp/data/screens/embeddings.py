"""Embeddings of genes and perturbations: from a table, from the training profiles, or planted by a simulator."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from pydantic import Field

from pertexp.config.errors import DataError, MismatchError
from pertexp.data.screens.screen import CONTROL, Screen, members

log = logging.getLogger(__name__)

Fallback = Literal["zero", "mean", "refuse"]


@dataclass(frozen=True)
class EmbeddingTable:
    """Names and their vectors: `names [T]`, `vectors [T, d]` float64."""

    names: np.ndarray
    vectors: np.ndarray


class EmbeddingSource(Protocol):
    """Anything that yields a table: it may look at the effects of training units, never at others."""

    normalise: bool
    fallback: Fallback

    def table(self, screen: Screen, training_effects: np.ndarray) -> EmbeddingTable:
        """Return names and vectors, given the screen's names and the `[U, G]` effects of training units."""


@dataclass(kw_only=True)
class TableFile:
    """A table on disk: CSV or TSV with names in the first column, or .npz with `genes` and `emb`.

    Attributes
    ----------
    path
        The file.
    normalise
        Scale every row to length 1.
    fallback
        What a name without a row gets: a row of zeros, the mean row, or a refusal.
    """

    path: str
    normalise: bool = True
    fallback: Fallback = "zero"

    def table(self, screen: Screen, training_effects: np.ndarray) -> EmbeddingTable:  # noqa: ARG002
        """Read the file; DataError where it is missing, malformed, not finite, or names a row twice."""
        path = Path(self.path)
        if not path.is_file():
            raise DataError(
                f"no embedding file {path}: type data.perturbation_embedding.path=/path/to/table.csv "
                "(or gene_embedding), or choose another source, for example data/perturbation_embedding=pca"
            )
        return read_table(path)


@dataclass(kw_only=True)
class TrainingPca:
    """Principal components of the training effects: a gene is described by its changes in training.

    Attributes
    ----------
    dimensions
        Number of components; fewer where there are fewer training units.
    normalise, fallback
        As for a table.
    """

    dimensions: Annotated[int, Field(ge=1)] = 10
    normalise: bool = False
    fallback: Fallback = "zero"

    def table(self, screen: Screen, training_effects: np.ndarray) -> EmbeddingTable:
        """Left singular vectors of the gene × unit effects, one row a measured gene.

        The signs are fixed by the largest entry, so that the same data give the same table.
        """
        centred = (training_effects - training_effects.mean(axis=0)).T
        left, weight, _ = np.linalg.svd(centred, full_matrices=False)
        kept = min(self.dimensions, int(np.count_nonzero(weight > weight.max(initial=0.0) * 1e-10)))
        if kept == 0:
            raise MismatchError(
                "the training effects span no principal component (fewer than two training units, or all alike): "
                "choose data/gene_embedding=table data.gene_embedding.path=..."
            )
        basis = left[:, :kept] * weight[:kept]
        basis *= np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(kept)])
        return EmbeddingTable(screen.genes, basis)


@dataclass(kw_only=True)
class Planted:
    """The embedding that a simulator planted."""

    of: Literal["genes", "perturbations"]
    normalise: bool = False
    fallback: Fallback = "refuse"

    def table(self, screen: Screen, training_effects: np.ndarray) -> EmbeddingTable:  # noqa: ARG002
        """Return the planted rows; MismatchError where the data hold no planted truth."""
        if screen.truth is None:
            raise MismatchError(
                "planted embeddings exist in a simulated screen alone: "
                "type data/perturbation_embedding=go data/gene_embedding=pca, or data=simulated_screen."
            )
        if self.of == "genes":
            return EmbeddingTable(screen.genes, screen.truth.gene_embedding)
        return EmbeddingTable(np.asarray(screen.truth.target_names), screen.truth.target_embedding)


def read_table(path: Path) -> EmbeddingTable:
    """Read a table from a CSV, a TSV or an .npz; DataError where it is malformed, not finite, or names a row twice."""
    names, vectors = _read_npz(path) if path.suffix == ".npz" else _read_text(path)
    if vectors.ndim != 2 or len(names) != len(vectors) or vectors.size == 0:
        raise DataError(
            f"{path} holds {names.size} names and vectors of shape {vectors.shape}: expected one row of numbers a "
            "name (columns parted by commas, by tabs in a .tsv)."
        )
    if not np.isfinite(vectors).all():
        raise DataError(f"{path} holds NaN or infinite entries: every vector must be finite.")
    if np.unique(names).size < names.size:
        raise DataError(f"{path} names a row twice: every name must stand once.")
    return EmbeddingTable(names, vectors)


def gene_rows(source: EmbeddingSource, screen: Screen, training_effects: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return `[G, d]` vectors of the screen's genes, and the genes that got the fallback."""
    return _align(source, table_of(source, screen, training_effects), screen.genes.tolist(), "gene_embedding")


def table_of(source: EmbeddingSource, screen: Screen, training_effects: np.ndarray) -> EmbeddingTable:
    """Return the whole table of a source, rows scaled to length 1 where it says so."""
    table = source.table(screen, training_effects)
    if not source.normalise:
        return table
    length = np.linalg.norm(table.vectors, axis=1, keepdims=True)
    return EmbeddingTable(table.names, table.vectors / np.where(length > 0, length, 1.0))


def perturbation_rows(source: EmbeddingSource, table: EmbeddingTable, screen: Screen) -> tuple[np.ndarray, list[str]]:
    """Return `[P, d]` vectors of the screen's perturbations, and the targets that got the fallback.

    A combination is the sum of its members' rows, so that effects linear in the embedding add up; control is zero.
    """
    targets = sorted({target for name in screen.perturbations for target in members(name)})
    rows, missing = _align(source, table, targets, "perturbation_embedding")
    position = {target: row for row, target in enumerate(targets)}
    summed = np.zeros((len(screen.perturbations), rows.shape[1]))
    for index, name in enumerate(screen.perturbations):
        if name != CONTROL:
            summed[index] = rows[[position[target] for target in members(name)]].sum(axis=0)
    return summed, missing


def _align(source: EmbeddingSource, table: EmbeddingTable, names: list[str], role: str) -> tuple[np.ndarray, list[str]]:
    vectors = table.vectors
    position = pd.Index(table.names).get_indexer(pd.Index(names))
    absent = np.flatnonzero(position < 0)
    missing = [names[i] for i in absent]
    if missing and source.fallback == "refuse":
        raise DataError(
            f"the {role} has no row for {len(missing)} of {len(names)} names (for example {', '.join(missing[:3])}): "
            f"add them, or type data.{role}.fallback=zero (or mean)."
        )
    if len(missing) == len(names) and names:
        log.warning(
            "the %s knows none of the %d names: all of them get the '%s' fallback.",
            role,
            len(names),
            source.fallback,
        )
    rows = vectors[position]
    rows[absent] = vectors.mean(axis=0) if source.fallback == "mean" else 0.0
    return rows, missing


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["genes"].astype(str), file["emb"].astype(np.float64)
    except (KeyError, ValueError, TypeError, EOFError, OSError, BadZipFile) as fault:
        raise DataError(
            f"{path} is not an embedding: expected an .npz with arrays `genes` and `emb` ({_one_line(fault)})."
        ) from fault


def _read_text(path: Path) -> tuple[np.ndarray, np.ndarray]:
    separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        # As text: to pandas a gene called NA is a missing value.
        frame = pd.read_csv(path, sep=separator, converters={0: str})
        names = frame.iloc[:, 0].astype(str).to_numpy(dtype=str)
        vectors = frame.iloc[:, 1:].to_numpy(dtype=np.float64)
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as fault:
        raise DataError(
            f"{path} is not an embedding table: expected a name in the first column, numbers in the others "
            f"({_one_line(fault)})."
        ) from fault
    if not all(name.strip() for name in names):
        raise DataError(f"{path} has a row without a name: every row must be named in the first column.")
    if _is_data([str(column) for column in frame.columns[1:]]):
        raise DataError(f"{path} begins with numbers ({frame.columns[1]}): its first line must name the columns.")
    return names, vectors


def _is_data(header: list[str]) -> bool:
    """Return whether a header line holds fractions: its first row of vectors, and not names or column numbers."""
    try:
        return any(not float(name).is_integer() for name in header)
    except ValueError:
        return False


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split())
