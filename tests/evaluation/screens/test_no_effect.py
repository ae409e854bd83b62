"""A mean of control cells that is handed in as a prediction has no effect, however it was rounded."""

import numpy as np
import pytest
from small_screen import data

from pertexp.evaluation.screens.no_effect import without_noise


def profile(design, cells):
    """By hand: log1p of the ratio of sums of counts, else the mean."""
    dense = design.screen.expression[cells].toarray().astype(np.float64)
    if design.screen.scale == "counts":
        return np.log1p(dense.sum(axis=0) / design.size_factor[cells].sum())
    return dense.mean(axis=0)


def means_of_controls(design, context):
    screen = design.screen
    control = screen.perturbation == 0
    here = control & (screen.context == context)
    cells = {"all": here, "fitted": here & (design.role == "control"), "every context": control}
    cells["held out"] = here & (design.role == "held_out_control")
    return {name: profile(design, np.flatnonzero(mask)) for name, mask in cells.items()}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", ["all", "fitted", "held out", "every context"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean_of_controls_becomes_that_of_the_fitted_ones(normalize, kind, dtype):
    design = data(normalize=normalize).design
    units = design.units("test")
    given = np.stack([means_of_controls(design, context)[kind] for context in units.context]).astype(dtype)
    found = without_noise(given.astype(np.float64), units, design)
    np.testing.assert_array_equal(found, design.training.control[units.context])
    assert (kind == "fitted") == np.allclose(given, found, rtol=1e-5)


def test_any_other_prediction_stays_as_it_is():
    design = data().design
    units = design.units("test")
    moved = design.training.control[units.context].copy()
    moved[:, 3] *= 1 + 1e-4
    moved[0] = np.nan
    np.testing.assert_array_equal(without_noise(moved, units, design), moved)
    elsewhere = design.training.control[1 - units.context]  # of the other context: that is an effect
    np.testing.assert_array_equal(without_noise(elsewhere, units, design), elsewhere)
