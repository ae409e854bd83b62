"""Calibration of a metric: the replicate compared with a prediction that knows nothing of the perturbation.

Dynamic range fraction and bound discrimination score after Miller et al. 2025 (as in scPertEval): with one half of the
cells as truth, the other half is the positive control and the training mean the negative one.
"""

import numpy as np

from pertexp.metrics.metric import Metric

TRUSTED = 0.5


def dynamic_range_fraction(metric: Metric, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """(s⁻ − s⁺) / (s⁻ − s*) of each unit `[U]`: the share of the way to perfect that the replicate covers.

    NaN where a value is missing or the negative control is perfect already.
    """
    distance = negative - metric.best
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(distance != 0, (negative - positive) / distance, np.nan)


def bound_discrimination(metric: Metric, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """1 where the replicate scores better than the negative control, ½ where they tie `[U]`; its mean is the BDS."""
    return metric.better(positive, negative)


def calibrated(metric: Metric, value: float, zero: float, one: float) -> float:
    """Return a score on the line where the negative control is 0 and the replicate 1; NaN where the two coincide."""
    if not np.isfinite([value, zero, one]).all() or one == zero:
        return float("nan")
    return float(np.clip((value - zero) / (one - zero), *metric.clamp))
