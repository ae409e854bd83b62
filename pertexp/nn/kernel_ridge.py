"""Kernel ridge regression of effects on groups of units, and its error on each group left out, in closed form."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
import scipy.sparse as sp

RIDGES = tuple(float(ridge) for ridge in 10.0 ** np.arange(2, -2.5, -0.5))
TIED = 1e-9  # relative difference below which two errors differ by rounding alone


@dataclass(frozen=True)
class Observed:
    """Observations of groups in contexts, one a unit: the data of a regression whose constant is a mean a context.

    Attributes
    ----------
    targets
        Y `[U, r]`.
    group
        `[U]` 0 .. P − 1, each with at least one unit.
    context
        `[U]` 0 .. C − 1.
    """

    targets: np.ndarray
    group: np.ndarray
    context: np.ndarray

    @classmethod
    def of(cls, targets: np.ndarray, group: np.ndarray, context: np.ndarray) -> Self:
        """Take targets `[U, G]`; many columns become U with the same YYᵀ, all that errors depend on."""
        if targets.shape[1] > len(targets):
            targets = np.asarray(np.linalg.qr(targets.T, mode="r")).T
        return cls(targets, group, context)

    @property
    def counts(self) -> np.ndarray:
        """`[P, C]` number of units."""
        counts = np.zeros((self.group.max() + 1, self.context.max() + 1))
        np.add.at(counts, (self.group, self.context), 1.0)
        return counts

    def summed(self, weights: np.ndarray) -> np.ndarray:
        """Return `[P, r]` sums over the units of each group, weighted by group and context `[P, C]`."""
        units = np.arange(self.group.size)
        indicator = sp.csr_matrix((weights[self.group, self.context], (self.group, units)), (len(weights), units.size))
        return np.asarray(indicator @ self.targets)

    def means_without(self, weights: np.ndarray) -> np.ndarray:
        """Return `[P, r]` Σ_c w_gc m_gc: m_gc is the mean of context c over all units but those of group g.

        It is the mean of all contexts where c holds no other unit.
        """
        counts = self.counts
        others = counts.sum(axis=0) - counts
        alone = others == 0
        anywhere = (weights * alone).sum(axis=1) / others.sum(axis=1)
        share = np.where(alone, 0.0, weights) / np.where(alone, 1.0, others) + anywhere[:, None]
        indicator = np.eye(counts.shape[1])[self.context]
        means: np.ndarray = share @ (indicator.T @ self.targets) - self.summed(share)
        return means


def dual_weights(kernel: np.ndarray, ridge: float, observed: Observed) -> np.ndarray:
    """Return `[P, r]` weights α of a ridge regression without a constant: a prediction is a kernel row `[P]` times α.

    α minimises Σ_u |y_u − (Kα)_g(u)|² + λ tr αᵀKα. All units of a group have one prediction, so that the P × P system
    of their means, (K + λN⁻¹) α = ȳ with N their numbers, has the solution of that of the units.

    Parameters
    ----------
    kernel
        K `[P, P]`, symmetric and positive semi-definite.
    ridge
        λ > 0.
    observed
        The targets less their constant.
    """
    counts = observed.counts
    root = np.sqrt(counts.sum(axis=1, keepdims=True))
    scaled = root * kernel * root.T + ridge * np.eye(len(kernel))
    weights: np.ndarray = root * np.linalg.solve(scaled, observed.summed(np.ones_like(counts) / root))
    return weights


def left_out_errors(kernel: np.ndarray, ridges: Sequence[float], observed: Observed) -> np.ndarray:
    """Return `[n]` squared errors, one a λ, of predicting each group by a fit on all others; nothing is fitted anew.

    A fit is the mean of the context plus the ridge regression of the rest, as in `dual_weights`. With units summed by
    group and divided by √n, A = (N^½ K N^½ + λI)⁻¹ and Z the targets less the means without group g (in the rows of g,
    too), the residual of g by a fit on the other rows is (A Z)_g / A_gg. Z differs between groups by a constant a
    context alone, so that A times targets and A times contexts serve all groups. The error of a group is that of its
    mean over its units, times their number: what differs between them, no kernel of groups can tell.

    Parameters
    ----------
    kernel
        K `[P, P]`, symmetric and positive semi-definite.
    ridges
        λ > 0.
    observed
        At least two groups.
    """
    counts = observed.counts
    root = np.sqrt(counts.sum(axis=1, keepdims=True))
    values, vectors = np.linalg.eigh(root * kernel * root.T)
    rotated = vectors.T @ observed.summed(np.ones_like(counts) / root)
    rotated_contexts = vectors.T @ (counts / root)
    errors = []
    for ridge in ridges:
        shrunk = vectors / (values + ridge)
        diagonal = (shrunk * vectors).sum(axis=1, keepdims=True)
        residual = shrunk @ rotated - observed.means_without(shrunk @ rotated_contexts)
        errors.append(float(np.square(residual / diagonal).sum()))
    return np.array(errors)


@dataclass(frozen=True)
class Choice:
    """What leaving groups out chose.

    Attributes
    ----------
    weights
        `[K]` of the kernels, of sum 1; all 0 where the means of contexts alone err least.
    ridge
        λ.
    error, error_of_means
        Squared error on the groups left out, and that of the means of contexts alone.
    """

    weights: np.ndarray
    ridge: float
    error: float
    error_of_means: float


def choose(kernels: np.ndarray, observed: Observed) -> Choice:
    """Choose weights of kernels `[K, P, P]` and λ by the error on groups left out; at least two groups.

    The candidates are every set of kernels in equal shares, and the means of contexts alone. Of equal errors, fewer
    kernels and a larger λ win.
    """
    means = float(left_out_errors(np.zeros(kernels.shape[1:]), [1.0], observed)[0])
    best = Choice(np.zeros(len(kernels)), 1.0, means, means)
    for weights in even_shares(len(kernels)):
        errors = left_out_errors(np.tensordot(weights, kernels, axes=1), RIDGES, observed)
        for ridge, error in zip(RIDGES, errors.tolist(), strict=True):
            if error < best.error * (1 - TIED):
                best = Choice(weights, ridge, error, means)
    return best


def even_shares(n: int) -> list[np.ndarray]:
    """Return weights `[n]` of every non-empty set of n kernels, equal within the set, small sets first."""
    sets = [np.array(chosen) for size in range(1, n + 1) for chosen in combinations(range(n), size)]
    return [np.bincount(chosen, minlength=n) / chosen.size for chosen in sets]
