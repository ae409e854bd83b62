"""The metrics that the GEARS paper reports (Roohani et al. 2023), on means of log-normalised cells.

What is kept: the twenty genes of largest |t| that are no dropouts, that is expressed in the perturbed cells, or absent
there and in control alike; the target gene may be one of them. What is not, because it misleads: correlation of
absolute expression, which is near 1 for anything; the plain top twenty that the package's monitor uses; direction
fractions that mix two orders of genes; the noise of a random draw of controls: the mean of all stands in its place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pertexp.metrics.cells import Cells, rescaled
from pertexp.metrics.correlation import pearson
from pertexp.metrics.differential import Moments, against_control, moments
from pertexp.metrics.metric import Metric, table
from pertexp.metrics.output import OF_CELLS

TOP = 20


@dataclass(frozen=True, eq=False)
class LogSummary:
    """The real or the predicted cells, summed up.

    Attributes
    ----------
    mean, control
        `[U, G]` mean of log-normalised cells, `[G]` that of the controls.
    sd
        `[U, G]` standard deviation over the cells of a unit.
    top
        `[U, 20]` indices of the top twenty genes that are no dropouts; fewer columns on a smaller panel.
    """

    mean: np.ndarray
    control: np.ndarray
    sd: np.ndarray
    top: np.ndarray


@dataclass(frozen=True, eq=False)
class LogView:
    """Summaries of truth and prediction."""

    truth: LogSummary
    prediction: LogSummary

    def at_top(self, values: np.ndarray) -> np.ndarray:
        """Return `[U, 20]` entries of `[U, G]` at the top genes of truth."""
        return np.take_along_axis(values, self.truth.top, axis=1)


def summarise(cells: Cells) -> LogSummary:
    """Sum up one side: log1p(y / s) of counts, or the log1p values as they are."""
    values = cells.expression
    if cells.scale == "counts":
        values = rescaled(values, 1.0 / cells.size_factor, log=True)
    of = moments(cells, values)
    sd = np.sqrt(of.deviation / np.maximum(of.n - 1, 1))
    return LogSummary(of.mean[:-1], of.mean[-1], sd[:-1], _top(of))


def _top(of: Moments) -> np.ndarray:
    """Return the genes of largest |t| among those expressed in the unit, or in neither the unit nor control."""
    kept = (of.mean[:-1] > 0) | (of.mean[-1] == 0)
    score = np.where(kept, np.abs(np.nan_to_num(against_control(of), posinf=np.inf)), -1.0)
    return np.argsort(-score, axis=1, kind="stable")[:, :TOP]


def _errors(view: LogView) -> np.ndarray:
    errors: np.ndarray = (view.prediction.mean - view.truth.mean) ** 2
    return errors


def mse_top20(view: LogView) -> np.ndarray:
    """Return the mean squared error over the top genes."""
    error: np.ndarray = view.at_top(_errors(view)).mean(axis=1)
    return error


def normalised_mse_top20(view: LogView) -> np.ndarray:
    """`mse_top20` over that of no change: 1 is no better than the control mean; NaN where control meets truth."""
    unchanged = view.at_top((view.truth.control - view.truth.mean) ** 2).mean(axis=1)
    return np.where(unchanged > 0, mse_top20(view) / np.where(unchanged > 0, unchanged, 1.0), np.nan)


def _effects(view: LogView) -> tuple[np.ndarray, np.ndarray]:
    control = view.truth.control
    return view.prediction.mean - control, view.truth.mean - control


def _delta(pick: Callable[[LogView, np.ndarray], np.ndarray]) -> Callable[[LogView], np.ndarray]:
    """Return the Pearson correlation of effects; -1 where one of them does not vary."""

    def correlation(view: LogView) -> np.ndarray:
        predicted, true = (pick(view, effect) for effect in _effects(view))
        values: np.ndarray = np.nan_to_num(pearson(predicted, true), nan=-1.0)
        return values

    return correlation


def opposite_direction(view: LogView) -> np.ndarray:
    """Return the share of the top genes predicted to move against their true direction."""
    predicted, true = (np.sign(view.at_top(effect)) for effect in _effects(view))
    share: np.ndarray = np.mean(predicted * true < 0, axis=1)
    return share


def within_one_sigma(view: LogView) -> np.ndarray:
    """Return the share of the top genes whose prediction lies within one standard deviation of the true cells' mean."""
    gap = np.abs(view.prediction.mean - view.truth.mean)
    share: np.ndarray = view.at_top(gap < view.truth.sd).mean(axis=1)
    return share


_TOP, _LOGS, _EFFECT = "top20_non_dropout", "mean of logs", "effect on logs"
GEARS: dict[str, Metric] = table(
    Metric(f"gears/mse_{_TOP}", mse_top20, 0.0, np.inf, _LOGS, needs_de=True, level="headline"),
    Metric(
        f"gears/pearson_delta_{_TOP}",
        _delta(lambda view, effect: view.at_top(effect)),
        1.0,
        -1.0,
        _EFFECT,
        needs_de=True,
        level="headline",
    ),
    Metric(
        f"gears/normalised_mse_{_TOP}",
        normalised_mse_top20,
        0.0,
        np.inf,
        _LOGS,
        needs_de=True,
        missing="truth equals control on the top genes",
    ),
    Metric("gears/pearson_delta", _delta(lambda _, effect: effect), 1.0, -1.0, _EFFECT),
    Metric("gears/mse", lambda view: _errors(view).mean(axis=1), 0.0, np.inf, _LOGS),
    Metric(f"gears/opposite_direction_{_TOP}", opposite_direction, 0.0, 1.0, _EFFECT, needs_de=True),
    Metric(f"gears/within_one_sigma_{_TOP}", within_one_sigma, 1.0, 0.0, _LOGS, needs_de=True),
    scales=OF_CELLS,
)
