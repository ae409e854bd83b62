"""What a metric is worth on a data set: by hand, and where there is nothing to divide by."""

import math

import numpy as np
import pytest

from pertexp.metrics.calibration import bound_discrimination, calibrated, dynamic_range_fraction
from pertexp.metrics.metric import Metric

ERROR = Metric("own", lambda view: view, 0.0, np.inf, "profile", clamp=(-6.0, 2.0))
SHARE = Metric("own", lambda view: view, 1.0, 0.0, "profile")


def test_the_share_of_the_way_to_perfect():
    positive, negative = np.array([1.0, 4.0, 0.0, 1.0, np.nan]), np.array([4.0, 4.0, 4.0, 0.0, 4.0])
    np.testing.assert_array_equal(dynamic_range_fraction(ERROR, positive, negative), [0.75, 0, 1, np.nan, np.nan])
    found = dynamic_range_fraction(SHARE, np.array([0.75, 0.25, 0.5]), np.array([0.5, 0.5, 1.0]))
    np.testing.assert_array_equal(found, [0.5, -0.5, np.nan])


def test_a_replicate_that_is_told_apart():
    positive, negative = np.array([1.0, 4.0, 5.0]), np.array([4.0, 4.0, 4.0])
    np.testing.assert_array_equal(bound_discrimination(ERROR, positive, negative), [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(bound_discrimination(SHARE, positive, negative), [0.0, 0.5, 1.0])


def test_a_score_between_the_controls():
    assert calibrated(SHARE, 0.6, 0.5, 0.75) == pytest.approx(0.4)
    assert calibrated(ERROR, 3.0, 4.0, 2.0) == 0.5
    assert calibrated(ERROR, 40.0, 4.0, 2.0) == -6.0
    assert calibrated(ERROR, -40.0, 4.0, 2.0) == 2.0


@pytest.mark.parametrize("values", [(1.0, 2.0, 2.0), (np.nan, 0.0, 1.0), (1.0, np.nan, 1.0), (1.0, 0.0, np.inf)])
def test_controls_that_coincide_or_are_not_there_leave_no_score(values):
    assert math.isnan(calibrated(SHARE, *values))
