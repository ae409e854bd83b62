"""Tables of pairs: masked rows, baselines that are not counted, chance, groups of pairs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from pertexp.evaluation.roles import RowRoles
from pertexp.report.tables import ARROWS, Column, GroupTable, Row, Tile, Value, number, row_of, tile
from pertexp.runs.schema import GroupScore


def chance_of(metric: str, prevalence: float) -> float | None:
    """Return what a prediction at random scores on a ranking metric; None where that is no number of its own."""
    known = {"auprc": prevalence, "auroc": 0.5}.get(metric)
    return None if known is None or math.isnan(known) else known


def pair_tiles(rows: Sequence[Row], baseline: Row | None, column: Column, prevalence: float) -> list[Tile]:
    """Return the model, the best baseline, and chance."""
    own = next((row for row in rows if row.kind == "model"), None)
    found = tile(own, own.label if own else "", column)
    found += tile(baseline, f"best baseline: {baseline.label}" if baseline else "", column)
    chance = chance_of(column.name, prevalence)
    if chance is None:
        return found
    beneath = "share of positives" if column.name == "auprc" else "a coin"
    return [*found, Tile("", f"{column.name} by chance", number(chance, column.decimals), beneath)]


def pair_footnotes(roles: RowRoles, prevalence: float, intervals: str) -> list[str]:
    """Return how the table of pairs is to be read."""
    said = [
        "Mean over cell lines of the mean over folds: each fold has a model of its own, which ranks its own pairs.",
        f"In brackets: 95 % bootstrap interval {intervals}.",
        f"AUPRC by chance: the share of positives, {number(prevalence, 3)}; AUROC: 0.5.",
        "Calibration error: chance alone adds to it, so its intervals lie too high.",
        f"★ best of the model and the baselines that count. {ARROWS}",
    ]
    if roles.masked:
        said.append("Indented: the model with part of its input taken away at inference.")
    return said


def group_table(
    values: Iterable[GroupScore], column: Column, roles: RowRoles, group: Callable[[GroupScore], str]
) -> GroupTable:
    """Return a metric by group of pairs, a row for every scored name."""
    own = [value for value in values if value.metric == column.name]
    sizes: Mapping[str, GroupScore] = {group(value): value for value in own}
    named = {name: group_label(name, size) for name, size in sizes.items()}
    rows: dict[str, dict[str, Value]] = {}
    for value in own:
        rows.setdefault(value.model, {})[group(value)] = _value(value)
    return GroupTable(
        column,
        list(named.values()),
        [row_of(name, roles, {key: found.get(key, _NONE) for key in named}) for name, found in rows.items()],
    )


def group_label(name: str, size: GroupScore) -> str:
    """Return a group with how many pairs it holds, and the share of positives."""
    share = "n/a" if math.isnan(size.prevalence) else f"{100 * size.prevalence:.0f} %"
    return f"{name} ({size.n:,} pairs, {share} positive)"


_NONE = Value(math.nan, n=0)


def _value(entry: GroupScore) -> Value:
    return Value(entry.value, entry.low, entry.high, n=entry.n)
