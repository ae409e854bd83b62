"""What the tables of pairs have of their own: masked rows, baselines that are not counted, chance, groups of pairs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from pertexp.evaluation.pairs.lineup import Lineup
from pertexp.report.pairs.reading import GroupValue
from pertexp.report.tables import ARROWS, Column, GroupTable, Row, Tile, Value, number, rows_of, tile
from pertexp.runs.reading import Aggregate

ASIDE = "aside"


def kind_in(lineup: Lineup, name: str) -> str:
    """What a scored name is."""
    role = lineup.roles.get(name, "baseline")
    return ASIDE if role == "not counted" else role


def note_in(lineup: Lineup, name: str) -> str:
    """What stands beneath a name."""
    return f"not counted: {lineup.not_counted[name]}" if name in lineup.not_counted else ""


def pair_rows(aggregate: Iterable[Aggregate], lineup: Lineup) -> list[Row]:
    """One row per scored name, in the order of the file."""
    return [
        replace(row, kind=kind_in(lineup, row.label), name=lineup.bare(row.label), note=note_in(lineup, row.label))
        for row in rows_of(aggregate, lineup.model)
    ]


def chance_of(metric: str, prevalence: float | None) -> float | None:
    """What knows nothing scores on a ranking metric; None where that is no number of its own."""
    known = {"auprc": prevalence, "auroc": 0.5}.get(metric)
    return known if known is not None and math.isfinite(known) else None


def pair_tiles(rows: Sequence[Row], baseline: Row | None, column: Column, prevalence: float | None) -> list[Tile]:
    """The model, the best baseline, and chance."""
    own = next((row for row in rows if row.kind == "model"), None)
    found = tile(own, own.label if own else "", column)
    found += tile(baseline, f"best baseline: {baseline.label}" if baseline else "", column)
    chance = chance_of(column.name, prevalence)
    if chance is None:
        return found
    beneath = "share of positives" if column.name == "auprc" else "a coin"
    return [*found, Tile("", f"{column.name} of what knows nothing", number(chance, column.decimals), beneath)]


def pair_footnotes(lineup: Lineup, prevalence: float | None, intervals: str) -> list[str]:
    """How the table of pairs is to be read."""
    said = [
        "Mean over cell lines of the mean over folds: each fold has a model of its own, which ranks its own pairs.",
        f"In brackets: 95 % bootstrap interval {intervals}.",
        f"AUPRC of what knows nothing: the share of positives, {number(prevalence, 3)}; AUROC: 0.5.",
        "Calibration error: chance alone adds to it, so its intervals lie too high.",
        f"★ best of the model and the baselines that count. {ARROWS}",
    ]
    if lineup.masked:
        said.append("Indented: the model with part of its input taken away at inference.")
    return said


def group_table(
    values: Iterable[GroupValue], column: Column, lineup: Lineup, group: Callable[[GroupValue], str]
) -> GroupTable:
    """A metric by group of pairs, a row for every scored name."""
    own = [value for value in values if value.metric == column.name]
    sizes: Mapping[str, GroupValue] = {group(value): value for value in own}
    named = {name: group_label(name, size) for name, size in sizes.items()}
    rows: dict[str, dict[str, Value]] = {}
    for value in own:
        rows.setdefault(value.model, {})[group(value)] = _value(value)
    return GroupTable(
        column,
        list(named.values()),
        [
            Row(name, kind_in(lineup, name), {key: found.get(key, _NONE) for key in named}, name=lineup.bare(name))
            for name, found in rows.items()
        ],
    )


def group_label(name: str, size: GroupValue) -> str:
    """A group with how many pairs it holds, and the share of positives."""
    share = "n/a" if size.prevalence is None else f"{100 * size.prevalence:.0f} %"
    return f"{name} ({size.n:,} pairs, {share} positive)"


_NONE = Value(math.nan, n=0)


def _value(entry: GroupValue) -> Value:
    mean, low, high = (math.nan if value is None else value for value in (entry.value, entry.low, entry.high))
    return Value(mean, low, high, n=entry.n)
