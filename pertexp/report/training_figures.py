"""Logged quantities as small multiples: one figure per group, one line per quantity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pertexp.metrics.pairs import PAIRS
from pertexp.report.drawing import LINE, MODEL, panels, shortened

_MOST_POINTS = 200
_MOST_PANELS = 24
_ELSEWHERE = ("step", "epoch", "train/loss", "val/loss")  # the axes, and what the curves of the loss show
_TITLES = {
    "val": "Validation metrics by epoch",
    "score": "Scores by epoch",
    "term": "Task and terms of the loss, before their weights",
    "weight": "Weights of the terms",
    "energy": "Energy",
    "resistance": "Resistance by cell line, in training batches",
    "sparsity": "Sparsity",
}


@dataclass(frozen=True)
class Multiples:
    """One figure of small panels."""

    title: str
    svg: str
    said: str


def training_multiples(curves: pd.DataFrame, lines: Sequence[str]) -> list[Multiples]:
    """Draw a figure for every group of quantities in logs/metrics.csv; `lines` are cell lines by their number."""
    if "step" not in curves:
        return []
    groups: dict[str, list[str]] = {}
    for name in curves.columns:
        if name not in _ELSEWHERE and curves[name].notna().any():
            groups.setdefault(_group(name), []).append(name)
    known = [key for key in _TITLES if key in groups]
    ordered = known + sorted(set(groups) - set(known))
    return [_multiples(place, key, sorted(groups[key], key=_order), curves, lines) for place, key in enumerate(ordered)]


def _group(name: str) -> str:
    prefix, _, rest = name.rpartition("/")
    if rest in PAIRS:
        return "score"
    return "term" if prefix == "train" else prefix or "other"


def _order(name: str) -> tuple[bool, str, int]:
    """Return the task first, then by name; names that end in a number, by that number."""
    stem = name.rstrip("0123456789")
    return name != "train/task", stem, int(name[len(stem) :] or -1)


def _multiples(place: int, key: str, names: Sequence[str], curves: pd.DataFrame, lines: Sequence[str]) -> Multiples:
    shown = names[:_MOST_PANELS]
    last = float(curves["step"].max())
    paints = [_line(_points(curves, name), _title(key, name, lines), last) for name in shown]
    title = _TITLES.get(key, key)
    svg = panels(f"training{place}", f"{title}: {', '.join(shown)}", paints, same_y=key == "resistance")
    rest = len(names) - len(shown)
    return Multiples(title, svg, f"{rest} more in logs/metrics.csv." if rest else "")


def _points(curves: pd.DataFrame, name: str) -> np.ndarray:
    """Return steps and values `[N, 2]`, at most 200: means over equal runs of steps."""
    points = curves[["step", name]].dropna().to_numpy(dtype=float)
    if len(points) <= _MOST_POINTS:
        return points
    return np.array([part.mean(axis=0) for part in np.array_split(points, _MOST_POINTS)])


def _title(key: str, name: str, lines: Sequence[str]) -> str:
    rest = name.rpartition("/")[2]
    *_, number = _order(rest)
    if key == "resistance" and 0 <= number < len(lines):
        return lines[number]
    return name if key == "score" else rest


def _line(points: np.ndarray, title: str, last: float) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        axes.plot(points[:, 0], points[:, 1], color=MODEL, linewidth=1.4, marker="o" if len(points) < 12 else "",
                  markersize=3)  # fmt: skip
        axes.set_xlim(-0.02 * last, max(1.0, 1.02 * last))
        axes.set_title(shortened(title, 22))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.grid(axis="y", color=LINE, linewidth=0.6, alpha=0.7)
        axes.set_axisbelow(True)

    return paint
