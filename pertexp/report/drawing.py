"""Turn a matplotlib figure into SVG for a page: text stays text, colours follow light and dark mode."""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

Box = tuple[float, float, float, float]
WIDE = 4.1  # inches: a phone shows it at a little above its own size, so that text of 9 points is legible there
# Placeholders: figures are drawn in these, the page gives each its colour by the variable of the same name.
INK, MUTED, LINE = "#010101", "#010102", "#010103"
MODEL, BASELINE, REPLICATE, TARGET = "#010104", "#010105", "#010106", "#010107"
SERIES = ("#010108", "#010109", "#01010a", "#01010b", "#01010c", "#01010d")
_VARIABLES = {
    INK: "ink", MUTED: "muted", LINE: "line",
    MODEL: "model", BASELINE: "baseline", REPLICATE: "replicate", TARGET: "target",
    **{colour: f"series-{position}" for position, colour in enumerate(SERIES, 1)},
}  # fmt: skip
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are names: no dollar begins a formula
    "path.simplify": False,
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "lines.solid_capstyle": "round",
}


@contextmanager
def _styled(salt: str) -> Iterator[None]:
    style: Any = _STYLE | {"svg.hashsalt": salt}  # matplotlib types its keys one by one
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser draws the text
        yield


def drawn(name: str, said: str, paint: Callable[[Axes], None], height: float = 3.4, box: Box | None = None) -> str:
    """Return an SVG element.

    Parameters
    ----------
    name
        Unique within the page: the element's references to itself begin with it.
    said
        What the figure shows, for those who do not see it.
    paint
        Fills the axes.
    height
        In inches, with a width of 4.1.
    box
        Left, bottom, right and top of the axes, as shares of the figure; None: as the labels need it, which is slow.
    """
    with _styled(name):
        figure = Figure(figsize=(WIDE, height), layout="constrained" if box is None else None)
        if box is not None:
            figure.subplots_adjust(*box)
        paint(figure.subplots())
        return _saved(figure, name, said)


def panels(name: str, said: str, paints: Sequence[Callable[[Axes], None]], *, same_y: bool = False) -> str:
    """Return an SVG element of small axes side by side, two in a row over the same x; see `drawn`."""
    rows = (len(paints) + 1) // 2
    with _styled(name):
        figure = Figure(figsize=(WIDE, 0.25 + 1.15 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False, sharey=same_y).ravel()
        for paint, axes in zip(paints, grid, strict=False):
            paint(axes)
        for axes in grid[len(paints) :]:
            axes.remove()
        return _saved(figure, name, said)


def _saved(figure: Figure, name: str, said: str) -> str:
    """Return the figure as an SVG element; within `_styled`."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _inlined(stream.getvalue(), name, said)


def dots(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, size: float = 3.0) -> None:
    """Points as one path: dots of many genes in a few kilobytes; those on one spot of half a pixel are drawn once."""
    spots = np.unique(np.round(axes.transData.transform(np.column_stack([x, y])) * 2) / 2, axis=0)
    corners = np.repeat(axes.transData.inverted().transform(spots), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(spots))
    axes.add_patch(
        PathPatch(
            Path(corners, codes), fill=False, edgecolor=colour, linewidth=size, capstyle="round", alpha=0.75, zorder=3
        )
    )


def shortened(name: str, length: int = 24) -> str:
    """Return a name that fits next to a point."""
    return name if len(name) <= length else name[: length - 1] + "…"


def _inlined(svg: str, name: str, said: str) -> str:
    """Make a document an element: no prolog, name spaces, style sheet or idle ids; short numbers; our colours."""
    body = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', body)
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\s)font-family: [^;"]*;?', r"\1", body)
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'(url\(#|href="#)([\w.-]+)', rf"\1{name}-\2", body)
    body = re.sub(r' d="([^"]*)"', lambda found: f' d="{_short(found[1])}"', body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    body = re.sub(r">\s+<", "><", body)
    return f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(said)}">{body}'


def _short(path: str) -> str:
    """Return Path data with two digits after the point, and dots as a stroke of no length."""
    path = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), path)
    path = re.sub(r"\s+", " ", path)
    return re.sub(r"M ([\d.-]+ [\d.-]+) L \1(?= |$)", r"M\1h0", path).strip()
