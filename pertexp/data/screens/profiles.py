"""Profiles: the mean expression of the cells of one perturbation in one context, or of a random half of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from pertexp.data.screens.scale import log_normalise
from pertexp.data.screens.screen import Scale, Screen
from pertexp.metrics.output import SCALE_WORDS, ProfileScale

PROFILE_SCALES: dict[Scale, ProfileScale] = {
    "counts": "log1p_of_means",
    "log1p": "mean_of_log1p",
    "log2fc": "mean_of_log2fc",
}
SCALE_NAMES = {scale: SCALE_WORDS[of_profiles] for scale, of_profiles in PROFILE_SCALES.items()}
# What to type for data whose profiles are on a scale.
SCALE_ADVICE: dict[ProfileScale, str] = {
    "log1p_of_means": "name raw counts with data.layer=... data.scale=counts, with data.normalize=false",
    "mean_of_log1p": "type data.normalize=where_counts for counts, or data.scale=log1p where the file holds logs",
    "mean_of_log2fc": "name fold changes with data.layer=... data.scale=log2fc",
}


@dataclass(frozen=True)
class Units:
    """Perturbations in contexts, as indices into the names of the screen: both `[U]`."""

    perturbation: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return int(self.perturbation.size)

    def take(self, rows: np.ndarray) -> "Units":
        """Return some of the units, by mask or index."""
        return Units(self.perturbation[rows], self.context[rows])


@dataclass(frozen=True)
class GroupSums:
    """Sums over the cells of each group, on the scale of the screen.

    Attributes
    ----------
    total
        `[U, G]` sums of expression.
    exposure
        `[U]` sums of size factors for counts, else numbers of cells.
    cells
        `[U]` numbers of cells.
    """

    total: np.ndarray
    exposure: np.ndarray
    cells: np.ndarray


def membership(group: np.ndarray, n_groups: int) -> sp.csr_matrix:
    """Return `[U, N]` indicator of cells in groups; cells of group -1 belong to none."""
    cell = np.flatnonzero(group >= 0)
    ones = np.ones(cell.size)
    return sp.csr_matrix((ones, (group[cell], cell)), shape=(n_groups, group.size))


def unit_groups(screen: Screen, units: Units, cells: np.ndarray | None = None) -> np.ndarray:
    """For each cell the row of its unit in `units`, or -1 `[N]`; `cells` (a mask) leaves the others out."""
    lookup = np.full((len(screen.perturbations), len(screen.contexts)), -1, dtype=np.int64)
    lookup[units.perturbation, units.context] = np.arange(len(units))
    group = lookup[screen.perturbation, screen.context]
    return group if cells is None else np.where(cells, group, -1)


def group_sums(screen: Screen, size_factor: np.ndarray, group: np.ndarray, n_groups: int) -> GroupSums:
    """Sum the cells of each group in one sparse product."""
    indicator = membership(group, n_groups)
    exposure = size_factor if screen.scale == "counts" else np.ones(screen.n_cells)
    total = np.asarray(indicator.dot(screen.expression.astype(np.float64)).todense())
    return GroupSums(total, indicator.dot(exposure), np.asarray(indicator.sum(axis=1)).ravel())


def profiles(screen: Screen, sums: GroupSums) -> np.ndarray:
    """Return `[U, G]` profiles on the scale `SCALE_NAMES` names; NaN rows where a group holds no cell.

    For counts log1p(Σy / Σs), the ratio of sums: the mean of per-cell logs would fall with the depth of the cells and
    could be met by no prediction without dispersion.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.total / sums.exposure[:, None]
    values: np.ndarray = np.log1p(mean) if screen.scale == "counts" else mean
    return values


def unit_profiles(screen: Screen, size_factor: np.ndarray, units: Units) -> np.ndarray:
    """Return `[U, G]` profiles of the cells of each unit."""
    return profiles(screen, group_sums(screen, size_factor, unit_groups(screen, units), len(units)))


def control_profiles(screen: Screen, size_factor: np.ndarray, cells: np.ndarray | None = None) -> np.ndarray:
    """Return `[C, G]` profile of the control cells of each context; of some of them alone, where `cells` masks them.

    NaN rows where a context has none of them.
    """
    control = screen.perturbation == 0
    group = np.where(control if cells is None else control & cells, screen.context, -1)
    return profiles(screen, group_sums(screen, size_factor, group, len(screen.contexts)))


def tested_values(screen: Screen, size_factor: np.ndarray) -> sp.csr_matrix:
    """Return what tests of expression look at `[N, G]`: log1p(y / s) of counts, else the values as they are."""
    return log_normalise(screen.expression, size_factor) if screen.scale == "counts" else screen.expression


def first_halves(screen: Screen, units: Units, seed: int | Sequence[int]) -> np.ndarray:
    """Return `[N]` mask of a random half of each unit's cells; the rest is the other half."""
    group = unit_groups(screen, units)
    order = np.random.default_rng(seed).permutation(screen.n_cells)
    order = order[np.argsort(group[order], kind="stable")]
    start = np.searchsorted(group[order], group[order], side="left")
    in_first = np.zeros(screen.n_cells, dtype=bool)
    in_first[order] = (np.arange(screen.n_cells) - start) % 2 == 0
    return in_first


def halves(
    screen: Screen, size_factor: np.ndarray, units: Units, seed: int | Sequence[int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return profiles `[U, G]` of two disjoint random halves of each unit's cells; None where a unit has one cell."""
    group, in_first = unit_groups(screen, units), first_halves(screen, units, seed)
    sides = [group_sums(screen, size_factor, np.where(side, group, -1), len(units)) for side in (in_first, ~in_first)]
    if any((side.exposure <= 0).any() for side in sides):
        return None
    return profiles(screen, sides[0]), profiles(screen, sides[1])
