"""What a page over many runs says: a table for each set of held-out units, a line for each swept parameter."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from pertexp.evaluation.claims import ties
from pertexp.evaluation.results.evidence import Standing
from pertexp.evaluation.results.gathering import Gathered, Refused, Setting, find_runs, gather
from pertexp.evaluation.screens.frame import REPLICATE
from pertexp.metrics.registry import METRICS
from pertexp.report import figures
from pertexp.report.provenance import spoken
from pertexp.report.rendering import PAGE, write_html
from pertexp.report.tables import (
    Column,
    FamilyTable,
    Row,
    Tile,
    Value,
    best_row,
    columns_of,
    family_tables,
    value_of,
)
from pertexp.report.verdicts import Verdict, verdict_of
from pertexp.runs.reading import Aggregate, Trust

_MOST_LINES = 6
_MOST_RUNGS = 24
_MOST_NAMES = 3


@dataclass(frozen=True)
class Listed:
    """A run in the list: where its page is, and what became of it."""

    name: str
    link: str
    setting: str
    folds: str
    seed: str
    value: float
    note: str = ""


@dataclass(frozen=True)
class Board:
    """Settings that were judged by the same units of the same data."""

    title: str
    said: str
    shared: list[str]
    primary: Column
    verdict: Verdict
    model: str
    chosen: str
    families: list[FamilyTable]
    footnotes: list[str]
    own: Row
    tiles: list[Tile]
    ladder: str | None
    sweeps: list[tuple[str, str, str]]
    runs: list[Listed]


@dataclass(frozen=True)
class Leaderboard:
    """The page."""

    title: str
    source: str
    boards: list[Board]
    refused: list[Listed]
    n_runs: int


@dataclass(frozen=True, eq=False)
class _Scored:
    """A setting and its scores on the primary metric of its table."""

    setting: Setting
    scores: Standing
    label: str

    @property
    def words(self) -> tuple[str, ...]:
        """What sets the setting apart, beside its model."""
        return tuple(self.label.removeprefix(self.setting.model).split())

    @property
    def rows(self) -> list[Row]:
        """All that it scored: the model under the label of its setting, the baselines and the replicate."""
        rows = []
        for name in self.scores.models:
            own = self.scores.aggregate[self.scores.aggregate["model"] == name]
            values = {str(entry["metric"]): self.value(entry) for entry in own.to_dict("records")}
            kind = self.scores.kind(name)
            own_row = Row(self.label, kind, values, name=name, words=self.words)
            rows.append(own_row if kind == "model" else Row(name, kind, values, note=self.scores.note(name)))
        return rows

    def value(self, entry: Mapping[Any, Any]) -> Value:
        """A cell, with its spread over seeds."""
        name, metric = str(entry["model"]), str(entry["metric"])
        value = value_of(_aggregate(entry))
        seeds = [means.loc[name, metric] for means in self.setting.by_seed if metric in means and name in means.index]
        if len(seeds) < 2:
            return value
        spread = float(pd.Series(seeds).std(ddof=1))
        fixed = name != self.setting.model and ties(spread, 0.0)  # a baseline that no seed moves
        return value if fixed else replace(value, sd=spread)


def write_leaderboard(paths: Sequence[Path], out: Path) -> Path:
    """Write one page over all runs at or beneath these paths; its path.

    Raises
    ------
    RequestError
        Where there is no run, or none that can be read.
    """
    runs, failed = find_runs(paths)
    source = ", ".join(spoken(path.resolve()) for path in paths[:_MOST_NAMES])
    page = leaderboard_of(gather(runs), failed, out, source + (", …" if len(paths) > _MOST_NAMES else ""))
    return write_html(out, "leaderboard.html.j2", {"page": page})


def leaderboard_of(found: Gathered, failed: Sequence[Refused], out: Path, source: str) -> Leaderboard:
    """Work out what the runs have to say together."""
    groups: dict[object, list[Setting]] = {}
    for setting in found.settings:
        groups.setdefault(setting.board_key, []).append(setting)
    ordered = sorted(groups.values(), key=lambda group: (group[0].entries[0].data_name, -len(group[0].evidence.units)))
    boards = [_board(group, number, out) for number, group in enumerate(ordered)]
    refused = [_refused(entry, out) for entry in [*found.refused, *failed]]
    names = list(dict.fromkeys(board.title for board in boards))
    shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    title = f"Leaderboard: {shown}" if names else "Leaderboard"
    return Leaderboard(title, source, boards, refused, sum(len(board.runs) for board in boards))


def _board(settings: list[Setting], number: int, out: Path) -> Board:
    primary = _common_primary(settings)
    settings = _best_first(settings, primary)
    labels, shared = _labels(settings)
    scored = _scored(settings, labels, primary)
    entries = [_aggregate(row) for one in scored for row in one.scores.aggregate.to_dict("records")]
    columns = columns_of(entries, _trust(scored))
    column = next(column for column in columns if column.name == primary)
    own = [row for one in scored for row in one.rows if row.kind == "model"]
    rows = [*_noted(own, scored), *_baselines_once(scored)]
    best = scored[0]
    said = [f"best of {len(scored)} settings, chosen on these units: {best.label}"] if len(scored) > 1 else []
    seeds = len(best.setting.by_seed)
    said += [f"every unit is the mean over {seeds} seeds"] if seeds > 1 else []
    first = settings[0].entries[0]
    baseline = best_row([row for row in rows if row.kind == "baseline"], column)
    return Board(
        title=first.data_name,
        said=best.scores.said,
        shared=shared,
        primary=column,
        verdict=verdict_of(best.scores.verdict()),
        model=best.setting.model,
        chosen="; ".join(said),
        families=family_tables(columns, rows),
        footnotes=best.scores.footnotes(columns),
        own=own[0],
        tiles=best.scores.tiles(rows, baseline, column),
        ladder=_ladder(rows, column, number, best.scores.chance(primary)),
        sweeps=_sweeps(scored, rows, column, number),
        runs=[listed for one in scored for listed in _runs(one, primary, out)],
    )


def _scored(settings: Sequence[Setting], labels: Sequence[str], primary: str) -> list[_Scored]:
    """The scores of each setting, of those after the best only what is shown beside it."""
    first, *others = [setting.evidence for setting in settings]
    shown = [first, *(other.beside(first) for other in others)]
    return [
        _Scored(setting, evidence.standing(primary), label)
        for setting, evidence, label in zip(settings, shown, labels, strict=True)
    ]


def _ladder(rows: Sequence[Row], column: Column, number: int, chance: float | None) -> str | None:
    return figures.ladder(rows, column, f"ladder{number}", chance) if len(rows) <= _MOST_RUNGS else None


def _common_primary(settings: Iterable[Setting]) -> str:
    """The primary metric of most runs, among those that every setting measured."""
    settings = list(settings)
    measured = set.intersection(*(set(one.evidence.metrics) for one in settings))
    named = [entry.summary.primary for one in settings for entry in one.entries if entry.summary.primary in measured]
    first = settings[0].evidence.metrics[0]
    return max(dict.fromkeys(named), key=named.count, default=first)


def _labels(settings: Sequence[Setting]) -> tuple[list[str], list[str]]:
    """A label for each setting, of what sets it apart; and what was typed in all of them."""
    typed = [setting.overrides for setting in settings]
    shared = {key: value for key, value in typed[0].items() if all(one.get(key) == value for one in typed)}
    labels = []
    for setting, words in zip(settings, typed, strict=True):
        own = [f"{key}={value}" if value else key for key, value in words.items() if key not in shared]
        labels.append(" ".join([setting.model, *own]))
    evaluations = ["+".join(setting.families) for setting in settings]
    twice = {label for label in labels if labels.count(label) > 1}
    told = [f"{a} ({b})" if a in twice else a for a, b in zip(labels, evaluations, strict=True)]
    still = {label for label in told if told.count(label) > 1}
    told = [f"{a}, {s.entries[-1].folder.name}" if a in still else a for a, s in zip(told, settings, strict=True)]
    return told, [f"{key}={value}" if value else key for key, value in shared.items()]


def _best_first(settings: Iterable[Setting], primary: str) -> list[Setting]:
    sign = -1.0 if METRICS[primary].higher_is_better else 1.0
    means = {id(one): one.evidence.value(one.model, primary) for one in settings}
    return sorted(settings, key=lambda one: (math.isnan(means[id(one)]), sign * means[id(one)]))


def _noted(rows: Sequence[Row], scored: Sequence[_Scored]) -> list[Row]:
    """Say under each setting over how many seeds it was averaged, where it is more than one."""
    counts = [len(one.setting.by_seed) for one in scored]
    return [
        replace(row, note=f"{count} seeds, mean ± s.d." if count > 1 else "")
        for row, count in zip(rows, counts, strict=True)
    ]


def _baselines_once(scored: Sequence[_Scored]) -> list[Row]:
    """Every baseline and the replicate once; one that scores differently under some setting keeps its setting.

    Models that were masked are shown of the best setting alone: those of the others say nothing about it.
    """
    variants: dict[str, list[tuple[Row, str]]] = {}
    for place, one in enumerate(scored):
        for row in one.rows:
            if row.kind == "model" or (row.kind == "masked" and place > 0):
                continue
            known = variants.setdefault(row.label, [])
            alike = next((at for at, (other, _) in enumerate(known) if _alike(row, other)), None)
            if alike is None:
                known.append((row, f"beside {one.label}"))
            else:
                first, beside = known[alike]
                known[alike] = replace(first, values={**row.values, **first.values}), beside
    rows = [_beside(row, said, len(of_name)) for of_name in variants.values() for row, said in of_name]
    return sorted(rows, key=lambda row: row.kind == REPLICATE)


def _beside(row: Row, said: str, of_name: int) -> Row:
    return row if of_name == 1 else replace(row, note="; ".join(filter(None, [row.note, said])))


def _alike(a: Row, b: Row) -> bool:
    shared = set(a.values) & set(b.values)
    same = (_same(a.values[name].mean, b.values[name].mean) for name in shared)
    return bool(shared) and all(same)


def _same(a: float, b: float) -> bool:
    return ties(a, b) or (math.isnan(a) and math.isnan(b))


def _sweeps(scored: Sequence[_Scored], rows: Sequence[Row], column: Column, number: int) -> list[tuple[str, str, str]]:
    """For each parameter that differs between settings: its name, a figure, and what the figure shows."""
    typed = [{"model": one.setting.model, **one.setting.overrides} for one in scored]
    keys = sorted({key for one in typed for key in one})
    swept = [key for key in keys if len({one.get(key) for one in typed}) > 1 and all(key in one for one in typed)]
    baseline = best_row([row for row in rows if row.kind == "baseline"], column)
    marks = {f"{baseline.label} (best baseline)": baseline.values[column.name].mean} if baseline else {}
    replicate = next((row for row in rows if row.kind == REPLICATE and column.name in row.values), None)
    marks |= {REPLICATE: replicate.values[column.name].mean} if replicate else {}
    found = []
    for position, key in enumerate(swept):
        others = [other for other in swept if other != key]
        lines, said = _lines(scored, typed, key, others, column)
        svg = figures.sweep_line(key, lines, column, marks, f"sweep{number}-{position}")
        found.append((key, svg, said))
    return found


def _lines(
    scored: Sequence[_Scored], typed: Sequence[dict[str, str]], key: str, others: Sequence[str], column: Column
) -> tuple[list[figures.Series], str]:
    """One line for each choice of the other parameters; their mean where there are more than six."""
    points: dict[str, list[tuple[str, float, float]]] = {}
    seeds = max(len(one.setting.by_seed) for one in scored)
    for one, words in zip(scored, typed, strict=True):
        value = one.value(one.scores.summary(one.setting.model, column.name).to_dict())
        label = ", ".join(f"{other}={words[other]}" for other in others) or one.setting.model
        points.setdefault(label, []).append((words[key], value.mean, value.sd))
    bars = f"bars: s.d. over {seeds} seeds" if seeds > 1 else "one seed: no bars"
    if len(points) <= _MOST_LINES:
        return [figures.Series(label, line) for label, line in points.items()], bars
    table = pd.DataFrame([point for line in points.values() for point in line], columns=["value", "mean", "sd"])
    means = table.groupby("value", sort=False)["mean"].agg(["mean", "std"])
    rows = [(str(value), float(row["mean"]), float(row["std"])) for value, row in means.iterrows()]
    said = f"mean ± s.d. over {len(points)} choices of {', '.join(others)}"
    return [figures.Series("mean over the other parameters", rows)], said


def _runs(one: _Scored, primary: str, out: Path) -> list[Listed]:
    listed = []
    for entry in one.setting.entries:
        value = entry.evidence.value(entry.summary.model, primary)
        link = _link(entry.folder, out)
        listed.append(Listed(entry.folder.name, link, one.label, entry.evidence.where, entry.seed, value))
    return listed


def _refused(entry: Refused, out: Path) -> Listed:
    return Listed(entry.folder.name, _link(entry.folder, out), "", "", "", math.nan, entry.reason)


def _link(folder: Path, out: Path) -> str:
    """Relative address of a run's page; empty where it has none."""
    page = folder / PAGE
    if not page.is_file():
        return ""
    return quote(Path(os.path.relpath(page, out.resolve().parent)).as_posix())


def _aggregate(entry: Mapping[Any, Any]) -> Aggregate:
    """A row of the aggregate table, NaN as None."""
    known = {str(key): value for key, value in entry.items() if key in Aggregate.__dataclass_fields__}
    plain: dict[str, Any] = {key: None if _is_nan(value) else value for key, value in known.items()}
    return Aggregate(**plain)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _trust(scored: Iterable[_Scored]) -> list[Trust]:
    """Calibration of every metric, from the first setting that has it."""
    found: dict[str, Trust] = {}
    for trust in [trust for one in scored for trust in one.scores.trust]:
        found.setdefault(trust.metric, trust)
    return list(found.values())
