"""A family of metrics: errors that few genes cannot spoil."""

import numpy as np

from pertexp.evaluation.screens.families import OnFrame
from pertexp.metrics.core import Scored
from pertexp.metrics.metric import Metric, table


def median_error(view: Scored) -> np.ndarray:
    """Median over genes of absolute profile errors `[U]`."""
    return np.median(np.abs(view.prediction - view.truth), axis=1)


def close(view: Scored) -> np.ndarray:
    """Share of genes `[U]` whose predicted effect lies within a half of the true one; NaN where nothing was tested."""
    off = np.abs(view.prediction - view.truth) <= 0.5 * np.abs(view.truth - view.control)
    return np.where(np.isnan(view.de_score).any(axis=1), np.nan, off.mean(axis=1))


class Robust(OnFrame):
    """Chosen by evaluation=robust."""

    metrics = table(
        Metric("robust/median_error", median_error, best=0.0, worst=np.inf, space="profile", level="headline"),
        Metric("robust/close", close, 1.0, 0.0, "effect against control", needs_de=True, missing="no cells to test"),
    )
