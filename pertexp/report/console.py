"""Blocks of a console table: models by at most five metrics, with intervals beneath."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from pertexp.evaluation.comparison import ties
from pertexp.metrics.registry import METRICS

_COLUMNS = 5
_WIDTH = 14


class Tabled(Protocol):
    """Scores as a table shows them."""

    @property
    def aggregate(self) -> pd.DataFrame:
        """One row per model and metric."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in order."""

    @property
    def untrusted(self) -> tuple[str, ...]:
        """Metrics that are marked."""

    def summary(self, model: str, metric: str) -> pd.Series:
        """Return the row of `aggregate`: mean, low, high, n."""


@dataclass(frozen=True)
class TableRow:
    """A row of the table.

    Attributes
    ----------
    model, label
        Whose scores, and what the first column says.
    competes
        Whether it can be the best of a column.
    opens_section
        Whether a line parts it from the row above.
    """

    model: str
    label: str
    competes: bool = True
    opens_section: bool = False


def blocks(scores: Tabled, rows: Sequence[TableRow]) -> list[Table]:
    """Lay out tables of at most five metrics each, without those that are a matter of detail or apply to nothing."""
    applies = scores.aggregate.groupby("metric")["n"].max() > 0
    metrics = [name for name in scores.metrics if METRICS[name].level != "detail" and applies[name]]
    return [_block(scores, rows, metrics[start : start + _COLUMNS]) for start in range(0, len(metrics), _COLUMNS)]


def _block(scores: Tabled, rows: Sequence[TableRow], metrics: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold", max_width=18)
    exponents = {metric: _exponent(scores, metric) for metric in metrics}
    best = {metric: _best_mean(scores, rows, metric) for metric in metrics}
    for metric in metrics:
        table.add_column(_header(scores, metric, exponents[metric]), justify="right")
    for row in rows:
        if row.opens_section:
            table.add_section()
        cells = [_cell(scores, row, metric, exponents[metric], best[metric]) for metric in metrics]
        table.add_row(Text(row.label), *cells)
    return table


def _header(scores: Tabled, metric: str, exponent: int) -> Text:
    arrow = "↑" if METRICS[metric].higher_is_better else "↓"
    mark = "†" if metric in scores.untrusted else ""
    family, _, bare = metric.rpartition("/")
    lines = [f"{family}/"] if family else []
    lines += textwrap.wrap(bare.replace("_", "_ "), _WIDTH) if len(bare) > _WIDTH else [bare]
    factor = f"\n×1e{exponent}" if exponent else ""
    return Text("\n".join(line.replace("_ ", "_") for line in lines) + f"{mark} {arrow}{factor}")


def _exponent(scores: Tabled, metric: str) -> int:
    """Power of ten in the header that keeps the cells of an unbounded metric short."""
    table = scores.aggregate
    means = table.loc[table["metric"] == metric, "mean"].to_numpy(dtype=float)
    largest = np.abs(means[np.isfinite(means)]).max(initial=0.0)
    if np.isfinite(METRICS[metric].worst) or largest == 0 or 0.1 <= largest < 100:
        return 0
    return int(np.floor(np.log10(largest)))


def _best_mean(scores: Tabled, rows: Sequence[TableRow], metric: str) -> float:
    means = [float(scores.summary(row.model, metric)["mean"]) for row in rows if row.competes]
    defined = [mean for mean in means if not np.isnan(mean)]
    if not defined:
        return np.nan
    return max(defined) if METRICS[metric].higher_is_better else min(defined)


def _cell(scores: Tabled, row: TableRow, metric: str, exponent: int, best: float) -> Text:
    found = scores.summary(row.model, metric)
    if found["n"] == 0:
        return Text("n/a\n")
    mean, low, high = (float(found[key]) / 10.0**exponent for key in ("mean", "low", "high"))
    interval = "no interval" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
    if row.competes and ties(float(found["mean"]), best):
        return Text.assemble((f"{mean:.3f}*", "bold"), f"\n{interval}")
    return Text(f"{mean:.3f}\n{interval}")
