"""Predictions that are a mean of control cells: they have no effect, whatever rounding makes of them."""

import numpy as np

from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import Units, control_profiles, group_sums
from pertexp.data.screens.profiles import profiles as mean_profiles
from pertexp.data.screens.split_table import HELD_OUT

# Of the largest number of a profile: sums of some thousand float32 numbers are off by less.
PRECISION = 16 * float(np.finfo(np.float32).eps)


def without_noise(profiles: np.ndarray, units: Units, design: Design) -> np.ndarray:
    """Return profiles `[U, G]`, those equal to a mean of control cells replaced by that of the fitted ones.

    Control cells are all, the fitted or the held-out ones of the unit's context, and those of all contexts together;
    equal is what float32 cannot tell apart. Rows of NaN, which are not predicted, stay.
    """
    screen, size_factor = design.screen, design.size_factor
    masks = (design.role == "control", design.role == HELD_OUT, screen.perturbation == 0)
    of_context = [control_profiles(screen, size_factor, mask)[units.context] for mask in masks]
    together = mean_profiles(screen, group_sums(screen, size_factor, np.where(masks[-1], 0, -1), 1))
    means = [*of_context, np.broadcast_to(together, profiles.shape)]
    peak = np.abs(profiles).max(axis=1, initial=0.0)
    with np.errstate(invalid="ignore"):
        equal = np.any([np.abs(profiles - mean).max(axis=1, initial=0.0) <= PRECISION * peak for mean in means], axis=0)
    return np.where(equal[:, None], design.training.control[units.context], profiles)
