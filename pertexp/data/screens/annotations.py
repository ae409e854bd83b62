"""Prior knowledge of genes: sets of genes that share a term."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from pertexp.config.errors import DataError, MismatchError
from pertexp.data.screens.screen import Screen


@dataclass(frozen=True)
class Annotation:
    """Genes and their terms.

    Attributes
    ----------
    genes, terms
        Names, sorted.
    marks
        `[genes, terms]` CSR, 1 where a gene has a term.
    """

    genes: tuple[str, ...]
    terms: tuple[str, ...]
    marks: sp.csr_matrix

    @classmethod
    def of(cls, sets: dict[str, set[str]]) -> "Annotation":
        """From the genes of each term."""
        genes = tuple(sorted(set().union(*sets.values())))
        terms = tuple(sorted(sets))
        place = {gene: row for row, gene in enumerate(genes)}
        pairs = [(place[gene], column) for column, term in enumerate(terms) for gene in sorted(sets[term])]
        row, column = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        ones = np.ones(row.size, dtype=np.float32)
        return cls(genes, terms, sp.csr_matrix((ones, (row, column)), shape=(len(genes), len(terms))))

    def rows(self, names: Iterable[str]) -> sp.csr_matrix:
        """Return `[n, terms]` terms of these genes, an empty row for one that is not annotated."""
        place = {gene: row for row, gene in enumerate(self.genes)}
        wanted = list(names)
        known = [number for number, name in enumerate(wanted) if name in place]
        lift = sp.csr_matrix(
            (np.ones(len(known), dtype=np.float32), (known, [place[wanted[number]] for number in known])),
            shape=(len(wanted), len(self.genes)),
        )
        rows: sp.csr_matrix = (lift @ self.marks).tocsr()
        return rows


class AnnotationSource(Protocol):
    """Anything that yields the annotation for a screen."""

    def __call__(self, screen: Screen) -> Annotation:
        """Return genes and their terms."""


@dataclass(frozen=True)
class GeneSets:
    """Gene sets in a .gmt file: a term, a description, then its genes, parted by tabs.

    Attributes
    ----------
    path
        The file; `GENE,1.0` is read as `GENE`.
    """

    path: str

    def __call__(self, screen: Screen) -> Annotation:  # noqa: ARG002
        """Read the file; DataError where it is missing or no .gmt."""
        path = Path(self.path)
        if not path.is_file():
            raise DataError(
                f"no file {path}: get gene sets as .gmt (for example GO biological process from Enrichr) and type "
                "data.annotation.path=..., or set PERTEXP_DATA to the folder that holds gene/."
            )
        sets: dict[str, set[str]] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as fault:
            raise DataError(f"{path} is no text: expected a .gmt of terms and their genes.") from fault
        for number, line in enumerate(lines, start=1):
            words = line.split("\t")
            if len(words) < 3 and line.strip():
                raise DataError(
                    f"{path}, line {number}: expected a term, a description and genes, parted by tabs, as in a .gmt."
                )
            genes = {word.split(",")[0].strip() for word in words[2:]} - {""}
            if genes:
                sets[words[0].strip()] = genes
        if not sets:
            raise DataError(f"{path} names no gene: expected a .gmt of terms and their genes.")
        return Annotation.of(sets)


@dataclass(frozen=True)
class PlantedSets:
    """Stand-in for an ontology in a simulated screen: targets that lie together in the planted embedding.

    A term is the targets of largest projection on a random direction, so that two targets share the more terms, the
    nearer their planted embeddings are.

    Attributes
    ----------
    n_terms
        Number of random directions.
    share
        Share of the targets that have a term.
    seed
        Of the directions.
    """

    n_terms: int = 400
    share: float = 0.15
    seed: int = 0

    def __call__(self, screen: Screen) -> Annotation:
        """Cut the sets; MismatchError where the data hold no planted truth."""
        if screen.truth is None:
            raise MismatchError(
                "planted gene sets exist in a simulated screen alone: type data/annotation=go, "
                "or data=simulated_screen."
            )
        names, rows = np.asarray(screen.truth.target_names), screen.truth.target_embedding
        directions = np.random.default_rng(self.seed).normal(size=(rows.shape[1], self.n_terms))
        size = max(2, round(self.share * len(names)))
        strongest = np.argsort(-(rows @ directions), axis=0, kind="stable")[:size]
        return Annotation.of({f"TERM{n:04d}": set(names[strongest[:, n]].tolist()) for n in range(self.n_terms)})
