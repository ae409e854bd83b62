"""What the page of a run on a screen says, in the order in which it says it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pertexp.evaluation.roles import RowRoles
from pertexp.report import figures
from pertexp.report.screens.reading import ScreenFolder
from pertexp.report.screens.tables import screen_footnotes, screen_tiles
from pertexp.report.screens.units import LISTED, Unit, effects_of, ranked, units_of
from pertexp.report.tables import (
    Column,
    FamilyTable,
    GroupTable,
    Row,
    Tile,
    best_row,
    columns_of,
    family_tables,
    left_out,
    rows_of,
)
from pertexp.report.verdicts import Verdict, verdict_of
from pertexp.runs.schema import CalibrationRow, ScoreRow, ScreenRecord

_ROLES = ("train", "val", "test", "control", "excluded")
_FEW = 20
_MOST_NAMES = 2000  # of a role of the split


@dataclass(frozen=True)
class Option:
    """A figure that a choice shows."""

    label: str
    why: str
    svg: str


@dataclass(frozen=True)
class Split:
    """Who was trained and tested on: counts by role, and the names."""

    counts: list[tuple[str, int | None, int | None]]
    fold: str
    hash: str
    names: dict[str, list[str]]


@dataclass(frozen=True)
class ScreenPage:
    """All that the template needs: plain values, tables and drawn figures."""

    model: str
    scale: str
    verdict: Verdict
    notes: list[str]
    primary: Column | None
    baseline: Row | None
    tiles: list[Tile]
    ladder: str | None
    families: list[FamilyTable]
    footnotes: list[str]
    subgroups: list[GroupTable]
    units: list[Unit]
    best: list[Unit]
    worst: list[Unit]
    effects: list[Option]
    score_over_effect: str | None
    curves: str | None
    calibration: list[tuple[CalibrationRow, Column]]
    split: Split | None
    recovery: dict[str, float]
    data: ScreenRecord | None


def screen_page_of(run: ScreenFolder) -> ScreenPage:
    """Work out what a run has to say."""
    summary, roles = run.metrics, RowRoles.of_metrics(run.metrics)
    columns = columns_of(summary.aggregate, summary.calibration)
    rows = rows_of(summary.aggregate, roles)
    primary = next((column for column in columns if column.name == summary.primary), None)
    baseline = None if primary is None else best_row([row for row in rows if row.kind == "baseline"], primary)
    units = units_of(run, summary.primary, baseline.label if baseline else None)
    upward = primary is None or primary.higher_is_better
    order = ranked(units, upward)
    listed = min(LISTED, (len(order) + 1) // 2)
    known = {column.name: column for column in columns}
    return ScreenPage(
        model=summary.model,
        scale=summary.scale,
        verdict=verdict_of(summary.model, summary.verdict, summary.not_counted),
        notes=[
            *summary.notes,
            *_caution(summary.aggregate, summary.model),
            *left_out(summary.aggregate, columns, summary.model),
        ],
        primary=primary,
        baseline=baseline,
        tiles=[] if primary is None else screen_tiles(rows, baseline, primary),
        ladder=None if primary is None else figures.ladder(rows, primary),
        families=family_tables(columns, rows),
        footnotes=screen_footnotes(columns),
        subgroups=_subgroups(summary.by_seen, columns, roles),
        units=units,
        best=[units[position] for position in order[:listed]],
        worst=[units[position] for position in order[::-1][: min(listed, len(order) - listed)]],
        effects=_effects(run, units, upward),
        score_over_effect=_score_over_effect(units, primary, summary.model, baseline),
        curves=None if run.curves is None else figures.learning_curves(run.curves),
        calibration=[(trust, known[trust.metric]) for trust in summary.calibration if trust.metric in known],
        split=_split(run),
        recovery=run.recovery or {},
        data=run.data,
    )


def _caution(aggregate: Sequence[ScoreRow], model: str) -> list[str]:
    n = max((entry.n for entry in aggregate if entry.model == model), default=0)
    if not 1 < n < _FEW:
        return []
    return [
        f"Intervals over fewer than {_FEW} perturbations are too narrow: on normal values those over 7 hold the truth "
        "88 times in 100, those over 3 only 75 times"
    ]


def _subgroups(by_seen: Sequence[ScoreRow], columns: Sequence[Column], roles: RowRoles) -> list[GroupTable]:
    """The headline metrics by subgroup; none where there are no combinations."""
    found = []
    for column in columns:
        entries = [entry for entry in by_seen if entry.metric == column.name]
        if column.level != "headline" or not entries:
            continue
        sizes = {(entry.members or 0, entry.seen or 0): entry.n for entry in entries if entry.model == roles.model}
        if not any(sizes.values()):
            continue
        by_group = [replace(entry, metric=_group((entry.members or 0, entry.seen or 0))) for entry in entries]
        names = [(_group(key), sizes[key]) for key in sorted(sizes)]
        rows = [
            replace(row, values={name: row.values[name] for name, _ in names if name in row.values})
            for row in rows_of(by_group, roles)
        ]
        found.append(GroupTable(column, [f"{name} (n = {size})" for name, size in names], rows))
    return found


def _group(key: tuple[int, int]) -> str:
    members, seen = key
    if members == 1:
        return "single, unseen" if seen == 0 else "single, seen in another context"
    return f"{'pair' if members == 2 else f'combination of {members}'}, {seen} of {members} seen"


def _effects(run: ScreenFolder, units: list[Unit], upward: bool) -> list[Option]:
    found = effects_of(run, units, upward)
    model, scale = run.metrics.model, run.metrics.scale
    return [
        Option(effect.unit.label, effect.why, figures.observed_and_predicted(effect, model, scale, position))
        for position, effect in enumerate(found)
    ]


def _score_over_effect(units: list[Unit], primary: Column | None, model: str, baseline: Row | None) -> str | None:
    shown = [unit for unit in units if math.isfinite(unit.effect) and math.isfinite(unit.own)]
    if primary is None or not shown:
        return None
    return figures.score_over_effect(shown, primary, model, baseline.label if baseline else None)


def _split(run: ScreenFolder) -> Split | None:
    if run.data is None and run.split is None:
        return None
    data = run.data or ScreenRecord()
    names: dict[str, list[str]] = {}
    if run.split is not None:
        folds = [data.fold] if data.fold is not None else run.folds
        table = run.split[run.split["fold"].isin(folds)]
        contexts = table["context"].nunique() > 1
        for role, part in table.groupby("role", sort=False):
            rows = zip(part["perturbation"], part["context"], strict=True)
            named = [f"{name} in {context}" if contexts else name for name, context in rows]
            rest = len(named) - _MOST_NAMES
            names[str(role)] = named if rest <= 0 else [*named[:_MOST_NAMES], f"and {rest} more in split.parquet"]
    roles = _by_role({*names, *data.units_by_role, *data.cells_by_role})
    units = data.units_by_role or {role: len(listed) for role, listed in names.items()}
    counts = [(role, units.get(role), data.cells_by_role.get(role)) for role in roles]
    fold = ", ".join(map(str, run.folds)) if data.fold is None else str(data.fold)
    return Split(counts, fold, data.split_hash or "", {role: names[role] for role in roles if role in names})


def _by_role(found: set[str]) -> list[str]:
    return [role for role in _ROLES if role in found] + sorted(found - set(_ROLES))
