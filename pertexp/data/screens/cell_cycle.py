"""Cell-cycle phases, 0 = G1, 1 = S, 2 = G2M, from the genes of Tirosh et al. (Science 2016)."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from pertexp.config.errors import DataError
from pertexp.data.screens.gene_symbols import current
from pertexp.data.screens.screen import PHASES

S_LINES = 43
LEAST_GENES = 5
_S_SET = re.compile(r"(?<![A-Za-z0-9])S(?![A-Za-z0-9])", re.IGNORECASE)
_G2M_SET = re.compile(r"G2[^A-Za-z0-9]?M", re.IGNORECASE)

Genes = tuple[str, ...]


def read_cell_cycle_genes(path: str | Path) -> tuple[Genes, Genes]:
    """Read the S genes and the G2M genes, in current symbols, each once.

    Parameters
    ----------
    path
        `.gmt` with one set named for S (`G1/S`, `S`) and one for `G2/M`; any other suffix: one gene a line,
        the first 43 lines S and the rest G2M, as in the list of the Regev lab.

    Raises
    ------
    DataError
        No such file, no set for a phase, no more than 43 lines.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"Cell-cycle gene list '{path}' does not exist: give its place with data.phase_genes=...")
    lines = [line.rstrip() for line in path.read_text().splitlines() if line.strip()]
    s_genes, g2m_genes = _from_sets(lines, path) if path.suffix == ".gmt" else _from_lines(lines, path)
    return _current(s_genes), _current(g2m_genes)


def score_phases(
    log_expression: sp.csr_matrix, genes: Sequence[str], s_genes: Sequence[str], g2m_genes: Sequence[str]
) -> np.ndarray:
    """Assign a phase to each cell, as scanpy's `score_genes_cell_cycle` does (Satija et al. 2015).

    A score is the mean of a list minus the mean of reference genes of like expression; the higher score names
    the phase, two negative scores are G1. Old and current symbols are the same gene. The draw of reference
    genes is seeded; the global random state is left as it was found.

    Parameters
    ----------
    log_expression
        `[N, G]`, log of depth-normalised counts plus one.
    genes
        `[G]` names of the panel.
    s_genes, g2m_genes
        As read by `read_cell_cycle_genes`.

    Returns
    -------
    `[N]` int64: 0 = G1, 1 = S, 2 = G2M.

    Raises
    ------
    DataError
        Fewer than five genes of a list on the panel, or a panel that leaves no reference genes.
    """
    s_genes, g2m_genes = _current(s_genes), _current(g2m_genes)
    panel = _current_panel(genes)
    _refuse_sparse_panel(panel, s_genes, g2m_genes)
    names = _scanpy_phases(log_expression, panel, s_genes, g2m_genes)
    return names.map({name: code for code, name in enumerate(PHASES)}).to_numpy(dtype=np.int64)


def _scanpy_phases(log_expression: sp.csr_matrix, panel: list[str], s_genes: Genes, g2m_genes: Genes) -> pd.Series:
    import scanpy as sc
    from anndata import AnnData

    cells = AnnData(X=log_expression, var=pd.DataFrame(index=panel))
    state = np.random.get_state()  # noqa: NPY002 - scanpy seeds the global generator
    try:
        with sc.settings.verbosity.override("error"):
            sc.tl.score_genes_cell_cycle(cells, s_genes=s_genes, g2m_genes=g2m_genes)
    except RuntimeError as error:
        raise DataError(
            f"The panel of {len(panel)} genes leaves no reference genes to score phases against ({error}): "
            "give more genes, or leave phases out with data.phase_genes=null."
        ) from error
    finally:
        np.random.set_state(state)  # noqa: NPY002
    phase: pd.Series = cells.obs["phase"]
    return phase


def _from_lines(lines: list[str], path: Path) -> tuple[list[str], list[str]]:
    if len(lines) <= S_LINES:
        raise DataError(
            f"Cell-cycle gene list '{path}' has {len(lines)} lines, the first {S_LINES} are S and the rest "
            "G2/M: give the whole list, or a .gmt with the sets G1/S and G2/M."
        )
    return [line.strip() for line in lines[:S_LINES]], [line.strip() for line in lines[S_LINES:]]


def _from_sets(lines: list[str], path: Path) -> tuple[list[str], list[str]]:
    sets = {fields[0]: fields[2:] for fields in (line.split("\t") for line in lines)}
    found = [[name for name in sets if kind.search(name)] for kind in (_S_SET, _G2M_SET)]
    if [len(names) for names in found] != [1, 1]:
        raise DataError(
            f"Gene sets '{path}' hold {len(found[0])} sets named for S and {len(found[1])} for G2/M among "
            f"{', '.join(list(sets)[:8])}: give a file with one of each."
        )
    return sets[found[0][0]], sets[found[1][0]]


def _current(genes: Sequence[str]) -> Genes:
    return tuple(dict.fromkeys(current(gene) for gene in genes if gene))


def _current_panel(genes: Sequence[str]) -> list[str]:
    """Rename old symbols, unless the panel has the current one as well."""
    present = set(genes)
    return [str(gene if current(gene) in present else current(gene)) for gene in genes]


def _refuse_sparse_panel(panel: list[str], s_genes: Genes, g2m_genes: Genes) -> None:
    present = set(panel)
    in_s, in_g2m = len(present & set(s_genes)), len(present & set(g2m_genes))
    if min(in_s, in_g2m) < LEAST_GENES:
        raise DataError(
            f"The panel of {len(panel)} genes has {in_s} of {len(s_genes)} S genes and {in_g2m} of "
            f"{len(g2m_genes)} G2/M genes, phases need {LEAST_GENES} of each: give more genes, or leave "
            "phases out with data.phase_genes=null."
        )
