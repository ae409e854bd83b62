"""The page over many runs: a table for each set of held-out units, a figure for each swept parameter."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from pertexp.evaluation.comparison import ScoredRows
from pertexp.evaluation.results.finding import Refused
from pertexp.evaluation.results.learning_curve import LearningCurve
from pertexp.evaluation.results.run import N_TRAIN
from pertexp.evaluation.results.tables import LabelledSetting, ResultRow, ResultsTable, ResultValue
from pertexp.evaluation.roles import REPLICATE
from pertexp.report import figures
from pertexp.report.learning_curve import ShownCurve, shown_curve
from pertexp.report.rendering import PAGE, write_html
from pertexp.report.results import chosen_text, reference_title, selection_text
from pertexp.report.sentences import interval_text, outcome_words
from pertexp.report.settings import SettingsText
from pertexp.report.tables import (
    Column,
    FamilyTable,
    Row,
    Tile,
    Value,
    best_row,
    columns_of,
    family_tables,
    style_of,
)
from pertexp.report.verdicts import Verdict, verdict_of
from pertexp.runs.schema import Comparison, ScoreRow

_MOST_LINES = 6
_MOST_RUNGS = 24
_MOST_NAMES = 3


@dataclass(frozen=True)
class Listed:
    """A run in the list: the link to its page, and its status."""

    name: str
    link: str
    setting: str = ""
    folds: str = ""
    seed: str = ""
    value: float = math.nan
    note: str = ""


@dataclass(frozen=True)
class ReferenceTable:
    """Comparisons of settings with a reference: a title, and per setting its difference and outcome."""

    title: str
    rows: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Board:
    """Settings that were scored on the same units of the same data."""

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
    curves: list[ShownCurve]
    reference: ReferenceTable | None
    runs: list[Listed]


@dataclass(frozen=True)
class Leaderboard:
    """The page."""

    title: str
    source: str
    boards: list[Board]
    refused: list[Listed]
    n_runs: int


@dataclass(frozen=True)
class ShownTable:
    """A table of settings, what its task says about it, comparisons with a reference and learning curves, if any."""

    table: ResultsTable[ScoredRows]
    text: SettingsText[ScoredRows]
    reference: str | None = None
    compared: tuple[Comparison, ...] = ()
    curves: tuple[LearningCurve, ...] = ()


def write_leaderboard(out: Path, shown: Sequence[ShownTable], refused: Sequence[Refused], source: str) -> Path:
    """Write one page over tables of settings; its path."""
    return write_html(out, "leaderboard.html.j2", {"page": leaderboard_of(out, shown, refused, source)})


def leaderboard_of(out: Path, shown: Sequence[ShownTable], refused: Sequence[Refused], source: str) -> Leaderboard:
    """Lay out what the page shows."""
    boards = [_board(one, number, out) for number, one in enumerate(shown)]
    names = list(dict.fromkeys(board.title for board in boards))
    listed = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    title = f"Leaderboard: {listed}" if names else "Leaderboard"
    left = [Listed(entry.folder.name, _link(entry.folder, out), note=entry.reason) for entry in refused]
    return Leaderboard(title, source, boards, left, sum(len(board.runs) for board in boards))


def _board(shown: ShownTable, number: int, out: Path) -> Board:
    table, text = shown.table, shown.text
    entries = [_score_row(row, metric, value) for row in table.rows for metric, value in row.values.items()]
    columns = columns_of(entries, text.calibration(table))
    primary = next(column for column in columns if column.name == table.primary)
    rows = [_row(row, table) for row in table.rows]
    baseline = best_row([row for row in rows if row.kind == "baseline"], primary)
    best = table.best
    return Board(
        title=table.data_name,
        said=text.tested(table),
        shared=[_typed(key, value) for key, value in table.shared.items()],
        primary=primary,
        verdict=verdict_of(best.setting.model, table.verdict, best.roles.not_counted),
        model=best.setting.model,
        chosen=selection_text(table),
        families=family_tables(columns, rows),
        footnotes=text.footnotes(table, columns),
        own=rows[0],
        tiles=text.tiles(table, rows, baseline, primary),
        ladder=_ladder(rows, primary, number, text.chance(table, table.primary)),
        sweeps=_sweeps(table, rows, primary, number),
        curves=[shown_curve(one, primary, f"size{number}-{at}") for at, one in enumerate(shown.curves)],
        reference=_reference(shown),
        runs=[listed for one in table.settings for listed in _runs(one, table.primary, out)],
    )


def _score_row(row: ResultRow, metric: str, value: ResultValue) -> ScoreRow:
    return ScoreRow(row.label, metric, value.mean, value.low, value.high, value.n, calibrated=value.calibrated)


def _row(row: ResultRow, table: ResultsTable[ScoredRows]) -> Row:
    values = {name: Value(v.mean, v.low, v.high, v.calibrated, v.n, v.sd) for name, v in row.values.items()}
    kind = style_of(row.role)
    if row.role == "model":
        one = next(one for one in table.settings if one.label == row.label)
        words = tuple(row.label.removeprefix(row.model).split())
        notes = [f"{row.seeds} seeds, mean ± s.d."] if row.seeds > 1 else []
        notes += [chosen_text(one)] if one.setting.chosen else []
        return Row(row.label, kind, values, note="; ".join(notes), name=row.model, words=words)
    roles = table.best.roles
    notes = [f"not counted: {roles.not_counted[row.model]}"] if row.model in roles.not_counted else []
    notes += [f"with {', '.join(_typed(*pair) for pair in row.overrides.items())}"] if row.overrides else []
    return Row(row.label, kind, values, note="; ".join(notes), name=roles.short(row.model))


def _typed(key: str, value: str) -> str:
    return f"{key}={value}" if value else key


def _reference(shown: ShownTable) -> ReferenceTable | None:
    if shown.reference is None or not shown.compared:
        return None
    rows = [(one.model, interval_text(one), outcome_words(one)) for one in shown.compared]
    return ReferenceTable(reference_title(shown.table, shown.reference, shown.compared), rows)


def _ladder(rows: Sequence[Row], column: Column, number: int, chance: float | None) -> str | None:
    return figures.ladder(rows, column, f"ladder{number}", chance) if len(rows) <= _MOST_RUNGS else None


def _sweeps(
    table: ResultsTable[ScoredRows], rows: Sequence[Row], column: Column, number: int
) -> list[tuple[str, str, str]]:
    """For each parameter that differs between settings: its name, a figure, and what the figure shows."""
    typed = [{"model": one.setting.model, **one.overrides} for one in table.settings]
    keys = sorted({key for one in typed for key in one})
    swept = [key for key in keys if len({one.get(key) for one in typed}) > 1 and all(key in one for one in typed)]
    baseline = best_row([row for row in rows if row.kind == "baseline"], column)
    marks = {f"{baseline.label} (best baseline)": baseline.values[column.name].mean} if baseline else {}
    replicate = next((row for row in rows if row.kind == REPLICATE and column.name in row.values), None)
    marks |= {REPLICATE: replicate.values[column.name].mean} if replicate else {}
    found = []
    for position, key in enumerate(key for key in swept if key != N_TRAIN):  # which has a figure of its own
        others = [other for other in swept if other != key]
        lines, said = _lines(table, typed, key, others)
        svg = figures.sweep_line(key, lines, column, marks, f"sweep{number}-{position}")
        found.append((key, svg, said))
    return found


def _lines(
    table: ResultsTable[ScoredRows], typed: Sequence[dict[str, str]], key: str, others: Sequence[str]
) -> tuple[list[figures.Series], str]:
    """Return one line for each choice of the other parameters; their mean where there are more than six."""
    points: dict[str, list[tuple[str, float, float]]] = {}
    seeds = max(one.setting.n_seeds for one in table.settings)
    for one, words in zip(table.settings, typed, strict=True):
        value = one.value(one.setting.model, table.primary)
        label = ", ".join(f"{other}={words[other]}" for other in others) or one.setting.model
        points.setdefault(label, []).append((words[key], value.mean, value.sd))
    bars = f"bars: s.d. over {seeds} seeds" if seeds > 1 else "one seed: no bars"
    if len(points) <= _MOST_LINES:
        return [figures.Series(label, line) for label, line in points.items()], bars
    joined = pd.DataFrame([point for line in points.values() for point in line], columns=["value", "mean", "sd"])
    means = joined.groupby("value", sort=False)["mean"].agg(["mean", "std"])
    rows = [(str(value), float(row["mean"]), float(row["std"])) for value, row in means.iterrows()]
    said = f"mean ± s.d. over {len(points)} choices of {', '.join(others)}"
    return [figures.Series("mean over the other parameters", rows)], said


def _runs(one: LabelledSetting[ScoredRows], primary: str, out: Path) -> list[Listed]:
    return [
        Listed(
            run.folder.name,
            _link(run.folder, out),
            one.label,
            run.results.where,
            run.seed,
            run.results.value(run.model, primary),
        )
        for run in one.setting.runs
    ]


def _link(folder: Path, out: Path) -> str:
    """Relative address of a run's page; empty where it has none."""
    page = folder / PAGE
    if not page.is_file():
        return ""
    return quote(Path(os.path.relpath(page, out.resolve().parent)).as_posix())
