"""Read a screen from an .h5ad file and the names of its columns, and verify it."""

import hashlib
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData, read_h5ad

from pertexp.config.errors import DataError, nearest
from pertexp.data.screens.labels import parse_labels
from pertexp.data.screens.scale import recover_counts, verify_scale
from pertexp.data.screens.screen import PHASES, Scale, Screen

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class H5adFile:
    """A screen on disk: its path, and what its columns mean.

    Attributes
    ----------
    path
        The .h5ad file.
    perturbation_key, control
        Column of `obs` with the perturbation labels, and the label of control cells.
    context_key
        Column or columns of `obs` that name the context (cell line, cell type, replicate); several are joined by `/`.
    gene_symbol_key
        Column of `var` with gene symbols; the index where None.
    scale
        What the matrix holds: `counts`, `log1p` or `log2fc`.
    layer
        Layer to read in place of X.
    recover_counts
        Bring counts back from `log1p`; cells for which no counts exist are left out and reported.
    depth_key
        Column of `obs` with the depth of the whole transcriptome. On a panel the sum over the panel's genes would let
        effects leak into size factors.
    where
        Keep only cells whose columns hold this value or one of these: `{cell_type: [k562]}`.
    separator, fold_guides
        What joins the members of a combination; a regular expression removed from each member (guide numbers).
    phase_key
        Column of `obs` with cell-cycle phases G1, S, G2M.
    expected
        What to get and from where, said when the file is absent.
    """

    path: str
    perturbation_key: str
    control: str | int
    context_key: str | list[str] | None = None
    gene_symbol_key: str | None = None
    scale: Scale = "counts"
    layer: str | None = None
    recover_counts: bool = False
    depth_key: str | None = None
    where: dict[str, Any] | None = None
    separator: str = "+"
    fold_guides: str | None = None
    phase_key: str | None = None
    expected: str | None = None

    def read(self, *, require_control: bool = True) -> Screen:
        """Read and verify; every fault is one message. Predictions may come without control cells.

        Raises
        ------
        DataError
            On a file that is missing, truncated or of another format, unknown columns, a wrong scale, NaN, duplicate
            genes, no control.
        """
        adata = _open(Path(self.path), self.expected)
        adata, dropped = _subset(adata, self.where or {})
        genes = _gene_names(adata, self.gene_symbol_key)
        expression = _matrix(adata, self.layer, self.scale)
        screen = self._label(adata.obs, expression, genes, require_control)
        if self.recover_counts:
            screen = _with_counts(screen)
        screen.provenance.update(
            file=Path(self.path).name,
            sha256=_sha256(Path(self.path)),
            cells_in_file=int(adata.n_obs + dropped),
            cells_outside_where=dropped,
            **{f.name: getattr(self, f.name) for f in fields(H5adFile) if f.name not in {"path", "expected"}},
        )
        return screen

    def _label(self, obs: pd.DataFrame, expression: sp.csr_matrix, genes: np.ndarray, require_control: bool) -> Screen:
        labels = _column(obs, self.perturbation_key, "data.perturbation_key")
        if require_control and self.scale == "log2fc" and str(self.control) not in set(labels.astype(str)):
            raise DataError(
                f"obs['{self.perturbation_key}'] holds no control row '{self.control}'; fold changes need one row of "
                "zeros a context as control: add it, or name it with data.control=..."
            )
        names, codes = parse_labels(
            labels, str(self.control), self.separator, self.fold_guides, require_control=require_control
        )
        context_names, context = _contexts(obs, self.context_key)
        return Screen(
            expression=expression,
            scale=self.scale,
            genes=genes,
            perturbations=names,
            perturbation=codes,
            contexts=context_names,
            context=context,
            depth=_depth(obs, self.depth_key, expression, self.scale),
            phase=_phases(obs, self.phase_key),
        )


def _open(path: Path, expected: str | None) -> AnnData:
    if not path.is_file():
        hint = expected or "type data.path=/path/to/your.h5ad"
        raise DataError(f"no file {path}: {hint}")
    try:
        adata = read_h5ad(path)
    except Exception as fault:  # h5py and anndata raise many kinds for a truncated or of another format file
        raise DataError(
            f"{path} cannot be read as .h5ad ({type(fault).__name__}: {' '.join(str(fault).split())[:120]}): "
            "it may be truncated or another format; fetch it again or write it with anndata."
        ) from fault
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise DataError(f"{path} is empty ({adata.n_obs} cells × {adata.n_vars} genes): expected at least one of each.")
    return adata


def _column(frame: pd.DataFrame, key: str, option: str) -> pd.Series:
    if key not in frame.columns:
        raise DataError(
            f"no column '{key}' among the columns of the file ({option}={key}): {nearest(key, frame.columns, 8)}"
        )
    return frame[key]


def _subset(adata: AnnData, where: dict[str, Any]) -> tuple[AnnData, int]:
    keep = np.ones(adata.n_obs, dtype=bool)
    for key, values in where.items():
        column = _column(adata.obs, key, "data.where").astype(str)
        wanted = {str(value) for value in (values if isinstance(values, list) else [values])}
        unknown = sorted(wanted - set(column))
        if unknown:
            raise DataError(
                f"data.where.{key} names '{unknown[0]}', which no cell has: {nearest(unknown[0], set(column))}"
            )
        keep &= column.isin(wanted).to_numpy()
    if not keep.any():
        raise DataError(f"no cell is left by data.where={where}: loosen it.")
    return (adata if keep.all() else adata[keep]), int((~keep).sum())


def _gene_names(adata: AnnData, key: str | None) -> np.ndarray:
    names = adata.var_names if key is None else _column(adata.var, key, "data.gene_symbol_key")
    genes = np.asarray(names, dtype=object).astype(str)
    seen, count = np.unique(genes, return_counts=True)
    if seen.size < genes.size:
        twice = seen[count > 1]
        raise DataError(
            f"{twice.size} gene names stand more than once (for example {', '.join(twice[:3])}): "
            "make them unique (adata.var_names_make_unique()), or name another column with data.gene_symbol_key=..."
        )
    return genes


def _matrix(adata: AnnData, layer: str | None, scale: Scale) -> sp.csr_matrix:
    if layer is not None and layer not in adata.layers:
        raise DataError(f"no layer '{layer}' in the file (data.layer={layer}): {nearest(layer, adata.layers)}")
    matrix: Any = adata.X if layer is None else adata.layers[layer]
    where = "X" if layer is None else f"layers['{layer}']"
    if matrix is None:
        raise DataError(f"the file has no X: name the matrix with data.layer=... ({nearest('', adata.layers)})")
    if getattr(matrix, "dtype", np.dtype(object)).kind not in "fiub":
        raise DataError(
            f"{where} does not hold numbers ({getattr(matrix, 'dtype', type(matrix))}): expected counts or logs."
        )
    sparse = sp.csr_matrix(matrix)
    verify_scale(sparse.data, scale, where)
    sparse = sparse.astype(np.float32)
    sparse.sum_duplicates()
    sparse.eliminate_zeros()
    return sparse


def _contexts(obs: pd.DataFrame, key: str | list[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    if not key:
        return ("all",), np.zeros(len(obs), dtype=np.int64)
    keys = [key] if isinstance(key, str) else list(key)
    columns = [_column(obs, name, "data.context_key") for name in keys]
    for name, column in zip(keys, columns, strict=True):
        if column.isna().any():
            raise DataError(
                f"obs['{name}'] (data.context_key) is missing for {int(column.isna().sum())} cells: "
                "fill it or leave them out."
            )
    values = pd.concat([column.astype(str) for column in columns], axis=1)
    joined = values.agg("/".join, axis=1)
    codes, names = pd.factorize(joined, sort=True)
    if len(names) < len(values.drop_duplicates()):
        raise DataError(
            f"contexts of data.context_key={keys} are no longer distinct when joined by '/': "
            "rename the values that hold a '/'."
        )
    return tuple(str(name) for name in names), codes.astype(np.int64)


def _depth(obs: pd.DataFrame, key: str | None, expression: sp.csr_matrix, scale: Scale) -> np.ndarray | None:
    """Library depth L `[N]`: the named column, else the sum of counts; None off the count scale."""
    if key is not None:
        depth = pd.to_numeric(_column(obs, key, "data.depth_key"), errors="coerce").to_numpy(dtype=np.float64)
        bad = int(np.count_nonzero(~(np.isfinite(depth) & (depth > 0))))
        if bad:
            raise DataError(
                f"obs['{key}'] (data.depth_key) is missing or not positive for {bad} cells: expected depths in counts."
            )
        return depth
    if scale != "counts":
        return None
    return _totals(expression)


def _totals(counts: sp.csr_matrix) -> np.ndarray:
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()


def _phases(obs: pd.DataFrame, key: str | None) -> np.ndarray | None:
    if key is None:
        return None
    labels = _column(obs, key, "data.phase_key").astype(str)
    unknown = sorted(set(labels) - set(PHASES))
    if unknown:
        raise DataError(f"obs['{key}'] (data.phase_key) holds '{unknown[0]}': expected only {', '.join(PHASES)}.")
    return labels.map({name: code for code, name in enumerate(PHASES)}).to_numpy(dtype=np.int64)


def _with_counts(screen: Screen) -> Screen:
    """Return the screen on recovered counts; cells for which none exist are left out and reported."""
    if screen.scale != "log1p":
        raise DataError(
            f"data.recover_counts=true brings counts back from log1p, but data.scale={screen.scale}: "
            "type data.recover_counts=false."
        )
    counts, failed = recover_counts(screen.expression)
    keep = np.ones(screen.n_cells, dtype=bool)
    keep[failed] = False
    if failed.size:
        log.warning(
            "counts could not be recovered for %d of %d cells; they are left out.",
            failed.size,
            screen.n_cells,
        )
    if not keep.any():
        raise DataError(
            "no cell's counts can be recovered from the log1p values (no factor up to 50 makes them integers): "
            "they may have been scaled or averaged; name the raw matrix with data.layer=..."
        )
    recovered = Screen(
        expression=counts,
        scale="counts",
        genes=screen.genes,
        perturbations=screen.perturbations,
        perturbation=screen.perturbation,
        contexts=screen.contexts,
        context=screen.context,
        depth=_totals(counts) if screen.depth is None else screen.depth,
        phase=screen.phase,
        provenance={"counts_recovered": int(keep.sum()), "counts_not_recoverable": int(failed.size)},
    )
    return recovered.take_cells(keep)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
