"""Read what cell-gears writes in addition to its weights: splits, cells, and the names of perturbable genes."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError
from pertexp.data.plain_pickle import read_plain_pickle
from pertexp.data.screens.labels import canonical_name
from pertexp.data.screens.profiles import control_profiles
from pertexp.data.screens.reading import H5adFile
from pertexp.data.screens.screen import CONTROL

ROLES = ("train", "val", "test")


def split_rows(conditions: Any, where: str | Path) -> pd.DataFrame:
    """Return rows `perturbation`, `role` of a saved split, a dictionary of conditions by role.

    `A+ctrl` and `ctrl+A` are one perturbation; the package splits them apart where a file holds both.

    Raises
    ------
    DataError
        Where it is no such dictionary, or one perturbation has two roles.
    """
    if not isinstance(conditions, dict) or not {"train", "test"} <= set(conditions) or set(conditions) - set(ROLES):
        found = ", ".join(map(str, conditions)) if isinstance(conditions, dict) else type(conditions).__name__
        raise DataError(
            f"{where} is no split of cell-gears (found {found}): expected lists of conditions under train, val and "
            "test; its subgroups lie in another file, ..._subgroup.pkl."
        )
    role_of: dict[str, str] = {}
    for role in ROLES:
        for condition in conditions.get(role, []):
            name = canonical_name(str(condition))
            given = "control" if name == CONTROL else role
            if role_of.setdefault(name, given) != given:
                raise DataError(f"{where} has {name} in {role_of[name]} and in {given}: leave it in one of them.")
    return pd.DataFrame(sorted(role_of.items()), columns=["perturbation", "role"])


class ControlMeans(NamedTuple):
    """Gene names, context names, and mean control cells `[C, G]`."""

    genes: tuple[str, ...]
    contexts: tuple[str, ...]
    mean: np.ndarray


def control_means(path: str | Path) -> ControlMeans:
    """Read them off a `perturb_processed.h5ad`."""
    file = H5adFile(
        path=str(path), perturbation_key="condition", control="ctrl", context_key="cell_type",
        gene_symbol_key="gene_name", scale="log1p",
    )  # fmt: skip
    screen = file.read()
    mean = control_profiles(screen, np.ones(screen.n_cells))
    return ControlMeans(tuple(screen.genes.tolist()), screen.contexts, mean)


def node_names(path: str | Path, terms: str | Path | None = None) -> tuple[str, ...]:
    """Return names of the nodes of the perturbation graph, sorted as the package sorts them.

    Parameters
    ----------
    path
        A pickled list of genes (`essential_all_data_pert_genes.pkl`, or what `gene_set_path` named), or a text file.
    terms
        `gene2go_all.pkl`: genes without an entry are no nodes.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        genes = read_plain_pickle(path)
    elif path.is_file():
        genes = path.read_text(encoding="utf-8").split()
    else:
        raise DataError(f"no file {path}: name the genes of the perturbation graph, as .pkl or one a line.")
    if not all(isinstance(gene, str) for gene in genes):
        raise DataError(f"{path} is no list of gene names: name the genes of the perturbation graph.")
    known = set(genes) if terms is None else set(genes) & set(read_plain_pickle(terms))
    return tuple(np.unique(sorted(known)).tolist())
