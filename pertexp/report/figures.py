"""The figures of a page, each an SVG element with axes and units."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pertexp.evaluation.roles import REPLICATE as REPLICATE_NAME
from pertexp.evaluation.roles import TRUTH
from pertexp.report.drawing import (
    BASELINE,
    INK,
    LINE,
    MODEL,
    MUTED,
    REPLICATE,
    SERIES,
    TARGET,
    dots,
    drawn,
    shortened,
)
from pertexp.report.screens.units import Effect, Unit
from pertexp.report.tables import Column, Row, number

_LABELLED = 6
_SQUARE = (0.165, 0.155, 0.985, 0.935)  # axes as wide as they are high
_MOST_POINTS = 400  # of a learning curve
_MOST_MARKS = 40
_SHORT = 26  # characters of a label of which two stand side by side
_COLOURS = {
    "model": MODEL,
    "masked": MODEL,
    "baseline": BASELINE,
    "aside": MUTED,
    TRUTH: MUTED,
    REPLICATE_NAME: REPLICATE,
}
_MARKERS = {"model": "o", "masked": "o", "baseline": "s", "aside": "X", TRUTH: "*", REPLICATE_NAME: "D"}
_SERIES_MARKERS = "osD^vP"


def ladder(rows: Sequence[Row], column: Column, name: str = "ladder", chance: float | None = None) -> str:
    """Return all models on one metric, best on top, with their intervals; a line at what knows nothing scores."""
    sign = 1.0 if column.higher_is_better else -1.0
    defined = [row for row in rows if column.name in row.values and math.isfinite(row.values[column.name].mean)]
    ordered = sorted(defined, key=lambda row: sign * row.values[column.name].mean)

    def paint(axes: Axes) -> None:
        if chance is not None:
            axes.axvline(chance, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
        for height, row in enumerate(ordered):
            value = row.values[column.name]
            colour = _COLOURS[row.kind]
            if math.isfinite(value.low):
                axes.plot([value.low, value.high], [height, height], color=colour, linewidth=2.2, alpha=0.55)
            fill: Any = "none" if row.kind == "masked" else "full"
            axes.plot([value.mean], [height], _MARKERS[row.kind], color=colour, markersize=6.5, fillstyle=fill)
        _name_rows(axes, ordered)
        bars = "; bar: 95 % interval" if any(math.isfinite(row.values[column.name].low) for row in ordered) else ""
        bars += "; dashed: chance" if chance is not None else ""
        better = "higher is better" if column.higher_is_better else "lower is better"
        axes.figure.supxlabel(f"{column.name} ({better}){bars}", fontsize=9, color=MUTED)

    said = f"{column.name} of every model: " + "; ".join(
        f"{row.label} {number(row.values[column.name].mean)}" for row in reversed(ordered)
    )
    return drawn(name, said, paint, height=0.75 + 0.26 * len(ordered))


def _name_rows(axes: Axes, rows: Sequence[Row]) -> None:
    """Write the names of rows that lie one above the other, that of the model in bold."""
    axes.set_yticks(range(len(rows)), [shortened(row.short, 28) for row in rows])
    for row, tick in zip(rows, axes.get_yticklabels(), strict=True):
        tick.set_color(INK if row.kind == "model" else MUTED)
        tick.set_fontweight("bold" if row.kind == "model" else "normal")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=LINE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def two_controls(rows: Sequence[Row], held_out: Column, shared: Column) -> str:
    """Return every row on a metric with all controls on both sides (open) and with held-out ones (filled)."""
    names = (held_out.name, shared.name)
    defined = [
        row for row in rows if all(name in row.values and math.isfinite(row.values[name].mean) for name in names)
    ]
    ordered = sorted(defined, key=lambda row: row.values[held_out.name].mean)

    def paint(axes: Axes) -> None:
        for height, row in enumerate(ordered):
            own, both = (row.values[name].mean for name in names)
            colour = _COLOURS[row.kind]
            axes.plot([own, both], [height, height], color=colour, linewidth=1.6, alpha=0.55)
            axes.plot([both], [height], "o", color=colour, markersize=6.5, fillstyle="none")
            axes.plot([own], [height], "o", color=colour, markersize=6.5)
        _name_rows(axes, ordered)
        axes.figure.supxlabel(f"{held_out.name}; ● held-out controls, ○ shared controls", fontsize=9, color=MUTED)

    said = f"{held_out.name} with held-out and with shared controls: " + "; ".join(
        f"{row.label} {number(row.values[names[0]].mean)} and {number(row.values[names[1]].mean)}"
        for row in reversed(ordered)
    )
    return drawn("two-controls", said, paint, height=0.75 + 0.26 * len(ordered))


def observed_and_predicted(effect: Effect, model: str, scale: str, position: int) -> str:
    """Return every gene of one unit: predicted change against control, or impact, over the observed one."""
    unit = scale.split(" (")[0]
    symbol = "r" if effect.same_scale else "ρ"
    r = f"{symbol} = {number(effect.r, 2)}" if math.isfinite(effect.r) else f"{symbol} undefined"
    change = "change" if effect.same_scale else "size of the change"

    def paint(axes: Axes) -> None:
        sides = [np.append(effect.observed, 0.0), np.append(effect.predicted, 0.0)]
        shared = np.concatenate(sides)
        across, upward = (_ends(shared if effect.same_scale else side) for side in sides)
        axes.set_xlim(*across)
        axes.set_ylim(*upward)
        axes.axhline(0, color=LINE, linewidth=0.7)
        axes.axvline(0, color=LINE, linewidth=0.7)
        if effect.same_scale:
            axes.plot(across, across, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        dots(axes, effect.observed, effect.predicted, MODEL)
        own = effect.own_target
        if own.any():
            axes.plot(
                effect.observed[own], effect.predicted[own], "D", color=TARGET, markersize=6, linestyle="", zorder=4
            )
        _gene_names(axes, effect)
        axes.set_title(f"{shortened(effect.unit.label, 30)} · {r}", fontweight="bold")
        axes.set_xlabel(f"observed {change}: perturbed − control\n({unit})")
        axes.set_ylabel(f"{'change' if effect.same_scale else 'impact'} predicted by {shortened(model, 22)}")

    said = f"{effect.unit.label}: predicted over observed {change} of {len(effect.genes)} genes, {r}"
    return drawn(f"effect{position}", said, paint, height=3.9, box=_SQUARE)


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Return ends of an axis that holds these values, with a margin."""
    margin = max(float(np.ptp(values)), 1e-9) * 0.07
    return float(values.min()) - margin, float(values.max()) + margin


def _gene_names(axes: Axes, effect: Effect) -> None:
    """Write names next to the genes of largest observed change and the targets, where they do not overlap."""
    order = np.argsort(-np.abs(effect.observed), kind="stable")
    wanted = [*np.flatnonzero(effect.own_target), *order[: 2 * _LABELLED]]
    taken: list[np.ndarray] = []
    for gene in dict.fromkeys(int(gene) for gene in wanted):
        point = axes.transData.transform((effect.observed[gene], effect.predicted[gene]))
        if len(taken) >= _LABELLED or any((np.abs(point - other) < (60, 13)).all() for other in taken):
            continue
        taken.append(point)
        right = effect.observed[gene] < np.mean(axes.get_xlim())
        axes.annotate(
            shortened(effect.genes[gene], 14),
            (effect.observed[gene], effect.predicted[gene]),
            xytext=(6 if right else -6, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=8,
            color=TARGET if effect.own_target[gene] else INK,
            zorder=5,
        )


def score_over_effect(units: Sequence[Unit], column: Column, model: str, baseline: str | None) -> str:
    """Return the primary metric of each unit over the size of its true effect, for the model and the best baseline."""
    sizes = np.array([unit.effect for unit in units])
    own, other = (np.array([getattr(unit, side) for unit in units]) for side in ("own", "baseline"))
    few = len(units) <= _MOST_POINTS

    def paint(axes: Axes) -> None:
        if few:
            gaps = np.column_stack([other, own, np.full_like(own, np.nan)]).ravel()
            axes.plot(np.repeat(sizes, 3), gaps, color=LINE, linewidth=0.9, zorder=1)
        look: dict[str, Any] = {"linestyle": "", "markersize": 5 if few else 2.5}
        if baseline is not None:
            named = f"{shortened(baseline)} (best baseline)"
            axes.plot(sizes, other, "s", color=BASELINE, fillstyle="none", markeredgewidth=1.3, label=named, **look)
        axes.plot(sizes, own, "o", color=MODEL, label=shortened(model), **look)
        axes.set_xlabel("size of the true effect\n(norm of the observed change over all genes)")
        axes.set_ylabel(f"{column.name} {'↑' if column.higher_is_better else '↓'}")
        axes.grid(axis="y", color=LINE, linewidth=0.6, alpha=0.7)
        axes.set_axisbelow(True)
        axes.figure.legend(loc="outside upper left", ncols=2, handletextpad=0.3, columnspacing=1.2)

    said = f"{column.name} over effect size for {len(units)} units, {model} compared with {baseline or 'no baseline'}"
    return drawn("score", said, paint, height=3.6)


def learning_curves(curves: pd.DataFrame) -> str | None:
    """Return the loss in training and on validation over optimiser steps; None where none was logged."""
    named = [(name, colour) for name, colour in (("train/loss", MODEL), ("val/loss", BASELINE)) if name in curves]
    found = [(name, colour, curves[["step", name]].dropna()) for name, colour in named if "step" in curves]
    found = [entry for entry in found if len(entry[2])]
    if not found:
        return None
    epochs = int(curves["epoch"].max()) + 1 if "epoch" in curves and curves["epoch"].notna().any() else None

    def paint(axes: Axes) -> None:
        for name, colour, table in found:
            points = _thinned(table.to_numpy(dtype=float))
            if name == "train/loss":
                axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=0.8, alpha=0.3)
                points = _by_epoch(curves, points)
            label = "training, mean of each epoch" if name == "train/loss" else "validation"
            mark = "" if len(points) > _MOST_MARKS else "o" if name == "train/loss" else "s"
            axes.plot(points[:, 0], points[:, 1], color=colour, linewidth=1.6, marker=mark, markersize=3.5, label=label)
        axes.set_xlabel("optimiser step" + (f" ({epochs} epochs)" if epochs else ""))
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y", color=LINE, linewidth=0.6, alpha=0.7)
        axes.figure.legend(loc="outside upper left", ncols=2, handlelength=1.4)

    return drawn("curves", "loss in training and on validation over optimiser steps", paint, height=2.9)


def _by_epoch(curves: pd.DataFrame, points: np.ndarray) -> np.ndarray:
    """Last step and mean training loss of each epoch `[E, 2]`; the points themselves where epochs are not logged."""
    if "epoch" not in curves:
        return points
    table = curves[["epoch", "step", "train/loss"]].dropna().groupby("epoch")
    return np.column_stack([table["step"].max(), table["train/loss"].mean()]).astype(float)


def _thinned(points: np.ndarray) -> np.ndarray:
    """At most 400 points `[N, 2]`: means over equal runs of steps."""
    if len(points) <= _MOST_POINTS:
        return points
    return np.array([part.mean(axis=0) for part in np.array_split(points, _MOST_POINTS)])


class Series:
    """One line of a sweep: a metric over the values of a parameter, all else fixed."""

    def __init__(self, label: str, points: Sequence[tuple[str, float, float]]) -> None:
        """`points`: value as typed, mean of the metric, half the length of its bar (NaN: none)."""
        self.label = label
        self.points = list(points)


def sweep_line(parameter: str, series: Sequence[Series], column: Column, marks: dict[str, float], name: str) -> str:
    """Return a metric over a swept parameter: lines over numbers, points over choices; reference lines for `marks`."""
    typed = list(dict.fromkeys(value for line in series for value, _, _ in line.points))
    numeric = all(_is_number(value) for value in typed)
    if numeric:
        typed.sort(key=float)
    place = {value: float(value) if numeric else float(at) for at, value in enumerate(typed)}
    numbers = [place[value] for value in typed]
    wide = numeric and min(numbers) > 0 and max(numbers) / min(numbers) >= 8

    def paint(axes: Axes) -> None:
        if wide:
            axes.set_xscale("log")
        for position, line in enumerate(series):
            points = sorted((place[value], mean, bar) for value, mean, bar in line.points)
            x, mean, bar = (np.array(part, dtype=float) for part in zip(*points, strict=True))
            look: dict[str, Any] = {"color": SERIES[position % len(SERIES)], "linestyle": "-" if numeric else ""}
            look |= {"marker": _SERIES_MARKERS[position % len(_SERIES_MARKERS)], "markersize": 5.5, "linewidth": 1.6}
            bars = bar if np.isfinite(bar).any() else None
            axes.errorbar(x, mean, yerr=bars, capsize=2.5, label=shortened(line.label, 40), **look)
        for (label, height), dashes in zip(marks.items(), ((0, (4, 3)), (0, (1, 2))), strict=False):
            colour = REPLICATE if label == REPLICATE_NAME else BASELINE
            axes.axhline(height, color=colour, linewidth=1.2, linestyle=dashes, label=shortened(label, 40))
        axes.set_xticks([], minor=True)
        axes.set_xticks(numbers, [shortened(value, 16) for value in typed])
        if not numeric:
            axes.set_xlim(-0.5, len(typed) - 0.5)
            axes.tick_params(axis="x", rotation=25 if max(map(len, typed)) > 7 else 0)
        axes.set_xlabel(parameter + (" (log scale)" if wide else ""))
        axes.set_ylabel(column.name)
        axes.grid(axis="y", color=LINE, linewidth=0.6, alpha=0.7)
        if axes.get_legend_handles_labels()[1]:
            longest = max(map(len, axes.get_legend_handles_labels()[1]))
            axes.figure.legend(loc="outside upper left", ncols=2 if longest <= _SHORT else 1, handlelength=2.2)

    return drawn(name, f"{column.name} over {parameter}", paint, height=3.5)


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
