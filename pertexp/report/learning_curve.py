"""Learning curves: the figure, and what it shows in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from pertexp.evaluation.comparison import FEWEST
from pertexp.evaluation.results.learning_curve import CurvePoint, LearningCurve
from pertexp.evaluation.roles import REPLICATE as REPLICATE_NAME
from pertexp.report.drawing import BASELINE, LINE, MODEL, REPLICATE, SERIES, drawn, shortened
from pertexp.report.sentences import interval_text, sentence, short
from pertexp.report.tables import Column
from pertexp.report.verdicts import STYLES, Sentence
from pertexp.runs.schema import Comparison

_COLOURS = (MODEL, BASELINE, SERIES[1], SERIES[4], SERIES[5])  # SERIES[0] is the colour of the model
_MARKERS = "osD^vP"
_CLOSE = 0.1  # of the width of the axis: two labels
_APART = 0.06  # doublings between the points of two rows at one number, so that their bars do not cover one another


@dataclass(frozen=True)
class ShownCurve:
    """A learning curve on a page: an SVG element, its caption, and what it shows."""

    svg: str
    caption: str
    said: list[Sentence]


def shown_curve(curve: LearningCurve, column: Column, name: str) -> ShownCurve:
    """Draw a curve; `name` is unique within the page."""
    rows = " and ".join(["the model", *(["baselines that are the best at some number"] if curve.baselines else [])])
    caption = f"{curve.label}: {rows}; bars: 95 % intervals"
    return ShownCurve(_figure(curve, column, name), caption, curve_sentences(curve))


def curve_sentences(curve: LearningCurve) -> list[Sentence]:
    """Say whether more training perturbations still help, and how the model compares when it has them all."""
    said = [Sentence(_growth(curve), STYLES.get(curve.growth.outcome, "other"))]
    if curve.verdict is not None:
        said.append(Sentence(sentence(curve.verdict), STYLES.get(curve.verdict.outcome, "other")))
    return said


def trained_text(point: CurvePoint) -> str:
    """`19`, or `19–20` where folds differ."""
    return "–".join(str(number) for number in dict.fromkeys((point.trained[0], point.trained[-1])))


def _growth(curve: LearningCurve) -> str:
    found, sizes = curve.growth, f"{trained_text(curve.smaller)} to {trained_text(curve.points[-1])}"
    start = f"from {sizes} training perturbations {curve.metric} changes by "
    opening = {
        "better": f"{curve.label} still gains from more training perturbations: ",
        "worse": f"{curve.label} loses with more training perturbations: ",
    }.get(found.outcome, f"Whether {curve.label} gains from more training perturbations cannot be told: ")
    return f"{opening}{start}{_changed(found)}"


def _changed(found: Comparison) -> str:
    over = f" over {found.over}" if found.over else ""
    why = {"too few units": f"fewer than {FEWEST}", "mostly undefined": "most resamples have no value"}
    if found.outcome in why:
        return f"{short(found.difference, '+')}{over}, too few to decide ({why[found.outcome]}); {found.remedy}"
    return f"{interval_text(found)}{over}."


def _figure(curve: LearningCurve, column: Column, name: str) -> str:
    rows = [curve.model, *curve.baselines]
    ticks = _ticks(curve.points)

    def paint(axes: Axes) -> None:
        axes.set_xscale("log", base=2)
        for place, row in enumerate(rows):
            _line(axes, curve.points, row, place, 2 ** (_APART * (place - (len(rows) - 1) / 2)))
        if curve.replicate is not None and math.isfinite(curve.replicate):
            axes.axhline(curve.replicate, color=REPLICATE, linewidth=1.2, linestyle=(0, (1, 2)), label=REPLICATE_NAME)
        axes.set_xticks([], minor=True)
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlabel("training perturbations (log scale)")
        axes.set_ylabel(f"{column.name} {column.arrow}")
        axes.grid(axis="y", color=LINE, linewidth=0.6, alpha=0.7)
        axes.figure.legend(loc="outside upper left", ncols=2, handlelength=2.2)

    return drawn(name, _described(curve), paint, height=3.5)


def _ticks(points: Sequence[CurvePoint]) -> dict[float, str]:
    """Return labels of numbers, without those so near a larger one that both would stand on one another."""
    near = _CLOSE * math.log2(points[-1].size / points[0].size)
    found = {points[-1].size: trained_text(points[-1])}
    for point in points[-2::-1]:
        if math.log2(min(found) / point.size) >= near:
            found[point.size] = trained_text(point)
    return found


def _line(axes: Axes, points: Sequence[CurvePoint], row: str, place: int, shift: float) -> None:
    found = [(point.size * shift, point.values[row]) for point in points if row in point.values]
    x, mean = [size for size, _ in found], [value.mean for _, value in found]
    bars = [
        [max(value.mean - value.low, 0.0) for _, value in found],
        [max(value.high - value.mean, 0.0) for _, value in found],
    ]
    colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
    own = place == 0
    axes.errorbar(
        x, mean, yerr=bars, color=colour, marker=marker, markersize=5.5 if own else 4.5, capsize=2.5,
        linewidth=1.8 if own else 1.1, elinewidth=1.2 if own else 0.7, label=shortened(row, 26), zorder=3 if own else 2,
    )  # fmt: skip


def _described(curve: LearningCurve) -> str:
    values = ", ".join(
        f"{trained_text(point)}: {point.values[curve.model].mean:.3f}"
        for point in curve.points
        if curve.model in point.values
    )
    return f"{curve.metric} of {curve.label} by number of training perturbations: {values}"
