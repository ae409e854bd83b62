"""Dispersions of genes from a sparse counts matrix: size-factor-corrected moments, likelihood, shrinkage.

The likelihood of all cells is never evaluated cell by cell. Its count part needs only how often a gene shows
each count (a digamma per distinct count); its mean part is a smooth function of log s, which Chebyshev
interpolation in log s turns into a sum over a dozen nodes. One pass over the non-zeros collects both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from scipy.special import digamma, zeta

from pertexp.config.errors import DataError, MismatchError

THETA_MIN, THETA_MAX = 1e-3, 1e8
_PRIOR_VARIANCE = (0.05**2, 3.0**2)
_INTERPOLATION_ERROR = 1e-9
_ROUNDS, _CONVERGED, _LONGEST_STEP = 60, 1e-4, 2.0
_BLOCK = 2**21
_COMMON_COUNTS = 256


@dataclass(frozen=True)
class Dispersion:
    """Dispersions theta of genes (variance mu + mu²/theta), each array `[G]`.

    Attributes
    ----------
    theta
        Posterior mode in log theta: likelihood (Cox-Reid adjusted) times a log-normal prior about the trend.
    theta_moments
        From `moment_dispersion`: 1e8 where the variance does not exceed that of a Poisson.
    trend
        Centre of the prior at the gene's mean.
    mean
        Σy / Σs, expected count at size factor 1.
    prior_sd
        Standard deviation of log theta about the trend, between genes.
    """

    theta: np.ndarray
    theta_moments: np.ndarray
    trend: np.ndarray
    mean: np.ndarray
    prior_sd: float


def control_mean(counts: sp.csr_matrix, size_factor: np.ndarray, pseudo_count: float = 0.5) -> np.ndarray:
    """Estimate the count `[G]` expected at size factor 1: (Σy + a)/(Σs + a/m), m = mean over genes of Σy/Σs.

    The prior is worth a counts seen at the mean gene's rate: it leaves the mean gene where it is, and gives a
    gene unseen in controls a small positive mean instead of log 0. Multiplying all s by k divides it by k.

    Raises
    ------
    DataError
        If there is no count at all.
    """
    matrix, size = _checked(counts, size_factor)
    total, exposure = _column_sums(matrix), size.sum()
    if total.sum() <= 0:
        raise DataError(
            f"the {matrix.shape[0]} control cells hold no count in {matrix.shape[1]} genes, where a positive "
            "total was expected: check the name of the control and the layer of counts."
        )
    typical = total.mean() / exposure
    rate: np.ndarray = (total + pseudo_count) / (exposure + pseudo_count / typical)
    return rate


def moment_dispersion(counts: sp.csr_matrix, size_factor: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Dispersions `[G]` by moments of q = y/s: theta = q̄² / (v - mean(1/s) q̄), v with ddof = 1 (DESeq2).

    Parameters
    ----------
    counts
        `[N, G]`, whole numbers.
    size_factor
        `[N]`, > 0; multiplying all by one number changes nothing.
    groups
        `[N]` labels: numerator and denominator are then pooled over groups with weight n_k - 1, so that the
        variance is about the mean of each group. None: one group.

    Returns
    -------
    ndarray
        theta in 1e-3..1e8; 1e8 where the variance does not exceed that of a Poisson.
    """
    matrix, size = _checked(counts, size_factor)
    return _moments(matrix, size, _group_index(groups, matrix.shape[0]))


def estimate_dispersion(counts: sp.csr_matrix, size_factor: np.ndarray, groups: np.ndarray | None = None) -> Dispersion:
    """Dispersions of all genes, shrunk to a trend of log theta on the log mean.

    Trend, spread about it and gene dispersions are found together (EM with Laplace's approximation, one
    Newton step a round): the spread between genes excludes sampling noise, and a gene whose variance looks no
    larger than Poisson takes the trend as far as its likelihood is flat, instead of infinity. Means of groups
    are Σy/Σs; the loss of their degrees of freedom is made good (Cox & Reid 1987, as in edgeR and DESeq2).

    Parameters
    ----------
    counts
        `[N, G]`, whole numbers; other sparse formats are converted, none is densified.
    size_factor
        `[N]`, > 0. Multiplying all by k divides `mean` by k and changes nothing else.
    groups
        `[N]` labels of cells that share a mean (perturbations), or None for one mean. Memory is
        groups × genes × about 12 numbers.

    Raises
    ------
    DataError
        If no group has two cells, or counts are negative or not whole.
    """
    matrix, size = _checked(counts, size_factor)
    group = _group_index(groups, matrix.shape[0])
    mean = _column_sums(matrix) / size.sum()
    moments = _moments(matrix, size, group)
    likelihood = _Likelihood.collect(matrix, size, group)
    log_theta, centre, variance = _shrink(likelihood, np.log(moments), mean)
    return Dispersion(np.exp(log_theta), moments, np.exp(centre), mean, float(np.sqrt(variance)))


@dataclass(frozen=True)
class _Likelihood:
    """Sufficient statistics of the likelihood of theta, given the means of K groups.

    `distinct` (gene, count, multiplicity): how often each gene shows each positive count.
    `size_node [J]`: size factors of the interpolation nodes; `cells [K, J]` and `counted [K, J, G]`: numbers
    of cells and of counts that fall to each node; `mean [K, G]`: expected count at size factor 1.
    """

    distinct: tuple[np.ndarray, np.ndarray, np.ndarray]
    size_node: np.ndarray
    cells: np.ndarray
    counted: np.ndarray
    mean: np.ndarray

    @classmethod
    def collect(cls, matrix: sp.csr_matrix, size: np.ndarray, group: np.ndarray) -> "_Likelihood":
        nodes, basis = _interpolation(np.log(size))
        order = np.argsort(group, kind="stable")
        start = np.r_[0, np.cumsum(np.bincount(group))]
        by_group = [order[low:high] for low, high in pairwise(start)]
        cells = np.stack([basis[rows].sum(axis=0) for rows in by_group])
        counted = np.stack([(matrix[rows].T @ basis[rows]).T for rows in by_group])
        exposure = np.bincount(group, weights=size)
        mean = counted.sum(axis=1) / exposure[:, None]
        return cls(_distinct_counts(matrix), np.exp(nodes), cells, counted, mean)

    def slopes(self, log_theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivative `[G]` of the adjusted log likelihood in log theta."""
        theta = np.exp(log_theta)
        first, second = self._count_part(theta)
        for genes in self._blocks():
            on_first, on_second = self._mean_part(genes, theta[genes])
            first[genes] += on_first
            second[genes] += on_second
        return first, second + first

    def _blocks(self) -> Iterator[slice]:
        groups, nodes, genes = self.counted.shape
        width = max(1, _BLOCK // (groups * nodes))
        return (slice(low, low + width) for low in range(0, genes, width))

    def _count_part(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gene, count, times = self.distinct
        size, shifted = theta[gene], theta[gene] + count
        first = times * size * (digamma(shifted) - digamma(theta)[gene])
        second = times * size**2 * (zeta(2, shifted) - zeta(2, theta)[gene])
        return _sums(gene, first, len(theta)), _sums(gene, second, len(theta))

    def _mean_part(self, genes: slice, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ratio = self.size_node[:, None] * (self.mean[:, genes] / theta)[:, None, :]
        share = ratio / (1 + ratio)
        weighted = np.einsum("kj,kjg->kg", self.cells, share)
        squared = np.einsum("kj,kjg->kg", self.cells, share * share)
        logs = np.einsum("kj,kjg->g", self.cells, np.log1p(ratio))
        kept = self.counted[:, :, genes] * (1 - share)
        first = theta * (weighted.sum(axis=0) - logs) - kept.sum(axis=(0, 1))
        second = theta * squared.sum(axis=0) + np.einsum("kjg,kjg->g", kept, 1 - share)
        adjustment = np.divide(squared, weighted, out=np.zeros_like(squared), where=weighted > 0)
        return first - 0.5 * adjustment.sum(axis=0), second


def _shrink(likelihood: _Likelihood, start: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Posterior modes and trend of log theta `[G]`, and the variance between genes."""
    smooth = _smoother(mean)
    finite = start < np.log(THETA_MAX)
    level = float(np.median(start[finite])) if finite.any() else np.log(THETA_MAX)
    log_theta, centre, variance = np.where(finite, start, level), np.full_like(start, level), 1.0
    for _ in range(_ROUNDS if start.size else 0):
        moved, posterior = _step(likelihood, log_theta, centre, variance)
        centre = smooth(moved)
        variance = float(np.clip(np.mean((moved - centre) ** 2 + posterior), *_PRIOR_VARIANCE))
        change, log_theta = np.abs(moved - log_theta).max(), moved
        if change < _CONVERGED:
            break
    return log_theta, centre, variance


def _step(
    likelihood: _Likelihood, log_theta: np.ndarray, centre: np.ndarray, variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return one Newton step to the posterior mode, and the posterior variance there."""
    first, second = likelihood.slopes(log_theta)
    information = np.maximum(-second, 0.0) + 1 / variance
    step = (first - (log_theta - centre) / variance) / information
    moved = log_theta + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
    return np.clip(moved, np.log(THETA_MIN), np.log(THETA_MAX)), 1 / information


def _smoother(mean: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Gaussian kernel smoother over the log mean; genes never seen take the value of the rarest gene."""
    seen = mean > 0
    if not seen.any():
        return lambda values: np.full_like(values, values.mean() if values.size else 0.0)
    x = np.log(np.where(seen, mean, mean[seen].min()))
    width = max(1.06 * x[seen].std() * seen.sum() ** -0.2, 1e-3)
    grid = np.arange(x.min(), x.max() + width, width / 2)
    kernel = np.exp(-0.5 * ((grid[:, None] - x[seen]) / width) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return lambda values: np.interp(x, grid, kernel @ values[seen])


def _interpolation(log_size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chebyshev nodes `[J]` over the range of log s, and Lagrange's basis at the cells, `[N, J]`.

    log1p(m s/theta) is analytic in log s up to ±iπ, so the error falls as rho^-J, with rho the sum of the
    half axes of the largest ellipse about the range (Trefethen 2013, theorem 8.2).
    """
    low, high = log_size.min(), log_size.max()
    half = max((high - low) / 2, 1e-9)
    rho = np.pi / half + np.hypot(1.0, np.pi / half)
    number = int(np.clip(np.ceil(-np.log(_INTERPOLATION_ERROR) / np.log(rho)), 4, 40))
    angle = (np.arange(number) + 0.5) * np.pi / number
    position = np.clip((log_size - (low + high) / 2) / half, -1.0, 1.0)
    degree = np.arange(number)
    weight = np.where(degree == 0, 1.0, 2.0) / number
    polynomials = np.cos(np.arccos(position)[:, None] * degree) * weight
    return (low + high) / 2 + half * np.cos(angle), polynomials @ np.cos(degree[:, None] * angle)


def _distinct_counts(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gene, count and multiplicity of every distinct pair of a gene and a positive count."""
    genes = matrix.shape[1]
    key = matrix.indices + genes * matrix.data.astype(np.int64)
    common = key < genes * _COMMON_COUNTS
    # A table for the small counts, which are nearly all; sorting is kept for the rest.
    table = np.bincount(key[common], minlength=1)
    few, times = np.unique(key[~common], return_counts=True)
    many = np.flatnonzero(table)
    distinct, times = np.r_[many, few], np.r_[table[many], times]
    positive = distinct >= genes
    distinct, times = distinct[positive], times[positive]
    return distinct % genes, distinct // genes, times


def _moments(matrix: sp.csr_matrix, size: np.ndarray, group: np.ndarray) -> np.ndarray:
    cells = np.bincount(group)[:, None]
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    q = matrix.data / size[row]
    shape = (len(cells), matrix.shape[1])
    summed = _sums(group[row] * shape[1] + matrix.indices, q, shape[0] * shape[1])
    mean = summed.reshape(shape) / cells
    squares = _sums(matrix.indices, q * q, shape[1])
    inverse_size = np.bincount(group, 1 / size)[:, None] / cells
    degrees = cells - 1
    within = (squares - (cells * mean**2).sum(axis=0)) / degrees.sum()
    poisson = (degrees * inverse_size * mean).sum(axis=0) / degrees.sum()
    square_mean = (degrees * mean**2).sum(axis=0) / degrees.sum()
    excess = within - poisson
    theta = np.divide(square_mean, excess, out=np.full_like(excess, THETA_MAX), where=excess > 0)
    clipped: np.ndarray = np.clip(theta, THETA_MIN, THETA_MAX)
    return clipped


def _column_sums(matrix: sp.csr_matrix) -> np.ndarray:
    return _sums(matrix.indices, matrix.data, matrix.shape[1])


def _sums(index: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    # bincount of nothing counts in integers, whatever the weights.
    return np.bincount(index, values, minlength=length).astype(np.float64)


def _checked(counts: sp.csr_matrix, size_factor: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    matrix = sp.csr_matrix(counts).astype(np.float64)
    matrix.sum_duplicates()
    size = np.asarray(size_factor, dtype=np.float64)
    if size.shape != (matrix.shape[0],):
        raise MismatchError(
            f"size_factor has shape {size.shape}, where one number for each of the {matrix.shape[0]} cells "
            "of counts was expected: pass the size factors of these very cells."
        )
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise DataError(
            f"{int((~(size > 0) | ~np.isfinite(size)).sum())} of {len(size)} size factors are not positive "
            "numbers, as every one must be: drop cells without counts first."
        )
    _check_whole(matrix.data)
    return matrix, size


def _check_whole(values: np.ndarray) -> None:
    wrong = (values < 0) | (values != np.rint(values))
    if wrong.any():
        raise DataError(
            f"counts hold {values[wrong][0]:g} where whole numbers >= 0 were expected: pass raw counts, not "
            "normalised or log-transformed expression."
        )


def _group_index(groups: np.ndarray | None, cells: int) -> np.ndarray:
    if groups is None:
        index = np.zeros(cells, dtype=np.int64)
    else:
        index = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
    if len(index) != cells:
        raise MismatchError(
            f"groups has {len(index)} labels, where one for each of the {cells} cells was expected: "
            "pass the labels of these very cells."
        )
    if np.bincount(index, minlength=1).max() < 2:
        raise DataError(
            f"{cells} cells in {len(np.unique(index))} groups leave no group of two, where a dispersion "
            "needs at least two cells that share a mean: pass more cells or groups=None."
        )
    return index
