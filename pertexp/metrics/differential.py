"""Differential expression of the cells of units against control cells, and of units against all others."""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from pertexp import threads
from pertexp.metrics.cells import Cells

SIGNIFICANT = 0.05


def wilcoxon(cells: Cells, values: sp.csr_matrix) -> np.ndarray:
    """Return two-sided p-values `[U, G]` of the Mann-Whitney test of each unit's cells against the control cells.

    Normal approximation with continuity and tie correction, as scipy's `mannwhitneyu(method="asymptotic")`; computed
    by illico. NaN rows for units without cells.

    Parameters
    ----------
    cells
        Which cell belongs to which unit.
    values
        `[N, G]` what is ranked.
    """
    from anndata import AnnData
    from illico import asymptotic_wilcoxon
    from loguru import logger

    p_values = np.full((cells.n_units, values.shape[1]), np.nan)
    tested = np.flatnonzero(cells.sizes[: cells.n_units])
    if not tested.size or not cells.sizes[-1]:
        return p_values
    label = np.where(cells.group < 0, cells.n_units, cells.group)
    adata = AnnData(_sorted(values), obs=pd.DataFrame({"unit": label}, index=np.arange(label.size).astype(str)))
    logger.disable("illico")
    with threads.kept(), contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        n_threads = min(threads.count(), threads.cores())  # numba refuses more
        result = asymptotic_wilcoxon(
            adata, is_log1p=False, group_keys="unit", reference=cells.n_units, n_threads=n_threads
        )
    units = result.index.get_level_values(0).to_numpy().astype(np.int64).reshape(-1, values.shape[1])[:, 0]
    found, statistic = (result[key].to_numpy().reshape(units.size, -1) for key in ("p_value", "statistic"))
    middle = cells.sizes[units] * cells.sizes[-1] / 2
    # Within the continuity correction of the middle illico counts half a rank on the wrong side.
    found = np.where(np.abs(statistic - middle[:, None]) <= 0.5, 1.0, found)
    kept = units < cells.n_units
    p_values[units[kept]] = found[kept]
    return p_values


def _sorted(values: sp.csr_matrix) -> sp.csr_matrix:
    if not values.has_sorted_indices:
        values = values.sorted_indices()
    return values.astype(np.float32, copy=False)


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values within each row `[U, G]` (Benjamini & Hochberg 1995); NaN entries are no tests and stay NaN."""
    m = np.count_nonzero(~np.isnan(p_values), axis=1)[:, None]
    order = np.argsort(p_values, axis=1, kind="stable")  # NaN last
    ranked = np.take_along_axis(p_values, order, axis=1)
    scaled = ranked * m / np.arange(1, p_values.shape[1] + 1)
    scaled = np.fmin.accumulate(scaled[:, ::-1], axis=1)[:, ::-1]
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.where(np.isnan(ranked), np.nan, np.minimum(scaled, 1.0)), axis=1)
    return adjusted


@dataclass(frozen=True, eq=False)
class Moments:
    """Numbers of cells `[U + 1, 1]`, means and summed squared deviations `[U + 1, G]`; control last."""

    n: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray


def moments(cells: Cells, values: sp.csr_matrix) -> Moments:
    """Moments of each unit's cells from one sparse product each of the values and their squares."""
    n = cells.sizes[:, None].astype(np.float64)
    squares = values.astype(np.float64).power(2)
    mean = cells.means(values)
    return Moments(n, mean, np.maximum(cells.sums(squares) - n * mean**2, 0.0))


def welch(a: Moments, b: Moments) -> np.ndarray:
    """Return Welch's t of a against b, row by row `[U, G]`; 0 where neither side varies nor differs, else ±inf.

    NaN where either side has fewer than two cells.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        error = sum(side.deviation / np.where(side.n > 1, side.n * (side.n - 1), np.nan) for side in (a, b))
        shift = a.mean - b.mean
        return np.where((error == 0) & (shift == 0), 0.0, shift / np.sqrt(error))


def t_against_control(cells: Cells, values: sp.csr_matrix) -> np.ndarray:
    """Return Welch's t `[U, G]` of each unit's cells against the control cells."""
    return against_control(moments(cells, values))


def against_control(of: Moments) -> np.ndarray:
    """Return Welch's t `[U, G]` of each unit against control, from moments."""
    return welch(_rows(of, slice(0, -1)), _rows(of, slice(-1, None)))


def t_against_others(cells: Cells, values: sp.csr_matrix) -> np.ndarray:
    """Return Welch's t `[U, G]` of each unit's cells against those of all other units of the pool, without control."""
    own = _rows(moments(cells, values), slice(0, -1))
    return welch(own, _others(own))


def _rows(of: Moments, rows: slice) -> Moments:
    return Moments(of.n[rows], of.mean[rows], of.deviation[rows])


def _others(own: Moments) -> Moments:
    """For each row the moments of all other rows together (Chan, Golub & LeVeque 1983)."""
    n = own.n.sum() - own.n
    total = (own.n * own.mean).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (total - own.n * own.mean) / n
    grand = total / own.n.sum()
    spread = own.deviation + own.n * (own.mean - grand) ** 2
    deviation = spread.sum(axis=0) - spread - n * (mean - grand) ** 2
    return Moments(n, mean, np.maximum(deviation, 0.0))
