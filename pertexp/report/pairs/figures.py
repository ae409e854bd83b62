"""The figures of pairs: how a model ranks them, and how well its probabilities are calibrated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pertexp.metrics.pairs import ScoredPairs, auprc, auroc, calibration_error, curve, reliability
from pertexp.report.drawing import BASELINE, LINE, MODEL, MUTED, Box, drawn, shortened
from pertexp.report.tables import number

_BOX: Box = (0.135, 0.125, 0.975, 0.815)  # beneath two lines of a legend
_MOST_POINTS = 300
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": MODEL, "linewidth": 1.9, "marker": "o", "zorder": 3},
    {"color": BASELINE, "linewidth": 1.5, "marker": "s", "zorder": 2},
)
Views = Mapping[str, ScoredPairs]


@dataclass(frozen=True)
class Ranking:
    """The figures of one group of pairs."""

    label: str
    figures: list[tuple[str, str]]


def ranking(label: str, views: Views, position: int) -> Ranking:
    """Return how a model, and the best baseline after it, rank the pairs of a group: drawings, and what each shows."""
    kinds: tuple[tuple[str, Callable[[str, Views, int], str]], ...] = (
        ("Precision over recall. Dashed: the share of positives, where what knows nothing stands.", _precision),
        ("Share of positives that are called over share of negatives that are. Dashed: what knows nothing.", _roc),
        ("Share of positives over predicted probability, in ten bins of as many pairs. Dashed: to be believed.",
         _calibration),
    )  # fmt: skip
    return Ranking(label, [(draw(label, views, position), said) for said, draw in kinds])


def _precision(label: str, views: Views, position: int) -> str:
    prevalence = float(next(iter(views.values())).positive.mean())

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [prevalence] * 2, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
        for (name, view), look in zip(views.items(), _LOOKS, strict=False):
            recall, precision, _ = _thinned(*curve(view))
            said = f"{shortened(name, 26)}: AUPRC {number(float(auprc(view)[0]))}"
            axes.step(np.append(0, recall), np.append(precision[:1], precision), label=said, **{**look, "marker": ""})
        _dressed(axes, "recall", "precision")

    return drawn(f"pr{position}", f"{label}: precision over recall; positives {prevalence:.0%}", paint, 3.7, _BOX)


def _roc(label: str, views: Views, position: int) -> str:
    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
        for (name, view), look in zip(views.items(), _LOOKS, strict=False):
            recall, _, false = _thinned(*curve(view))
            said = f"{shortened(name, 26)}: AUROC {number(float(auroc(view)[0]))}"
            axes.plot(np.append(0, false), np.append(0, recall), label=said, **{**look, "marker": ""})
        _dressed(axes, "negatives that are called", "positives that are called")

    return drawn(f"roc{position}", f"{label}: positives over negatives that are called", paint, 3.7, _BOX)


def _calibration(label: str, views: Views, position: int) -> str:
    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
        for (name, view), look in zip(views.items(), _LOOKS, strict=False):
            said, share, _ = reliability(view)
            error = number(float(calibration_error(view)[0]))
            axes.plot(said, share, label=f"{shortened(name, 26)}: error {error}", markersize=4.5, **look)
        _dressed(axes, "mean predicted probability", "share of positives")

    return drawn(f"believed{position}", f"{label}: share of positives over predicted probability", paint, 3.7, _BOX)


def _dressed(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=LINE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    axes.figure.legend(loc="upper left", bbox_to_anchor=(0.0, 1.0), handlelength=1.6)


def _thinned(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """At most 300 of the points `[K]`, both ends among them."""
    n = len(columns[0])
    kept = np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(int))
    return tuple(column[kept] for column in columns)
