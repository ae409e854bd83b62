"""The sections of the page of a run on a screen, in their order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pertexp.data.screens.split_table import ROLES
from pertexp.evaluation.roles import RowRoles
from pertexp.metrics.core import SHARED
from pertexp.report import figures
from pertexp.report.provenance import data_notes
from pertexp.report.score_table import ScoreTable
from pertexp.report.screens.reading import ScreenFolder
from pertexp.report.screens.tables import screen_footnotes, screen_tiles
from pertexp.report.screens.units import LISTED, Unit, effects_of, ranked, units_of
from pertexp.report.sections import NO_CURVES, NO_DATA, NO_SPLIT, Section, Values
from pertexp.report.tables import Column, GroupTable, Row, left_out, rows_of
from pertexp.runs.schema import ScoreRow, ScreenRecord

_MOST_NAMES = 2000  # of a role of the split


@dataclass(frozen=True)
class Option:
    """A figure that is shown when it is selected."""

    label: str
    why: str
    svg: str


@dataclass(frozen=True)
class ScreenSplitCounts:
    """Counts of units and cells by role, and their names."""

    counts: list[tuple[str, int | None, int | None]]
    fold: str
    hash: str
    names: dict[str, list[str]]


def glance(run: ScreenFolder) -> Values | None:
    """Show the primary metric: the model among its baselines."""
    table = _table(run)
    if table.primary is None:
        return None
    tiles = screen_tiles(table.rows, table.baseline, table.primary)
    return {"tiles": tiles, "ladder": figures.ladder(table.rows, table.primary)}


def scores(run: ScreenFolder) -> Values:
    """Show all scores, by family and by what was seen in training, and how much planted truth was found."""
    metrics, table = run.metrics, _table(run)
    excluded = left_out(metrics.aggregate, table.columns, metrics.model)
    return {
        "scale": metrics.scale,
        "families": table.families,
        "footnotes": screen_footnotes(table.columns),
        "notes": [*metrics.notes, *excluded],
        "subgroups": _subgroups(metrics.by_seen, table.columns, table.roles),
        "recovery": run.recovery or {},
    }


def effects(run: ScreenFolder) -> Values | None:
    """Show predicted against observed effects, gene by gene, and the score of every unit over its effect size."""
    table = _table(run)
    units = _units(run, table)
    chosen = _effects(run, units, _upward(table))
    over_size = _score_over_effect(units, table.primary, run.metrics.model, table.baseline)
    if not chosen and over_size is None:
        return None
    same_scale = run.frame is None or run.frame.same_scale
    return {
        "effects": chosen, "same_scale": same_scale, "score_over_effect": over_size, "scale": run.metrics.scale,
    }  # fmt: skip


def controls(run: ScreenFolder) -> Values | None:
    """Show what a score is with held-out and with shared controls, row by row."""
    table = _table(run)
    known = {column.name: column for column in table.columns}
    held_out, shared = known.get("pearson_delta"), known.get(f"pearson_delta_{SHARED}")
    if held_out is None or shared is None:
        return None
    values = [row.values.get(held_out.name) for row in table.rows]
    if not any(value is not None and math.isfinite(value.mean) for value in values):
        return None
    return {"figure": figures.two_controls(table.rows, held_out, shared)}


def best_and_worst(run: ScreenFolder) -> Values | None:
    """Show the units that the model predicts best, and worst."""
    table = _table(run)
    units = _units(run, table)
    order = ranked(units, _upward(table))
    if not order:
        return None
    n_best = min(LISTED, (len(order) + 1) // 2)
    n_worst = min(n_best, len(order) - n_best)
    return {
        "best": [units[position] for position in order[:n_best]],
        "worst": [units[position] for position in order[::-1][:n_worst]],
        "primary": table.primary,
        "baseline": table.baseline,
    }


def curves(run: ScreenFolder) -> Values | None:
    """Show the loss over training."""
    drawn = None if run.curves is None else figures.learning_curves(run.curves)
    return None if drawn is None else {"curves": drawn}


def calibration(run: ScreenFolder) -> Values | None:
    """Show how far each metric is to be trusted on this data."""
    known = {column.name: column for column in _table(run).columns}
    rows = [(trust, known[trust.metric]) for trust in run.metrics.calibration if trust.metric in known]
    if not rows:
        return None
    further = [trust for trust, column in rows if column.level != "headline"]
    unknown = sum(math.isnan(trust.bds) for trust in further)
    return {
        "calibration": rows,
        "doubted": sum(not trust.trusted for trust in further) - unknown,
        "unknown": unknown,
    }


def split(run: ScreenFolder) -> Values | None:
    """Show who was trained and tested on."""
    found = _split(run)
    return None if found is None else {"split": found}


def data(run: ScreenFolder) -> Values | None:
    """Show what the data are."""
    return None if run.data is None else {"data": run.data, "notes": data_notes(run)}


SECTIONS: tuple[Section[ScreenFolder], ...] = (
    Section("glance", "", glance, "glance.html.j2", in_header=True),
    Section("scores", "Scores", scores, "screens/scores.html.j2"),
    Section(
        "effects", "Predicted against observed", effects, "screens/effects.html.j2", link="effects",
        absent="predictions.h5ad or metrics.parquet is not in the folder, or the primary metric applies to no unit: "
        "there are no effects to show.",
    ),
    Section(
        "controls", "How much of the score is the noise of shared controls?", controls, "screens/controls.html.j2",
        link="controls",
        absent="No control cells are held out here, or the metrics are not those of core: there is nothing to compare.",
    ),
    Section(
        "units", "Best and worst predictions", best_and_worst, "screens/units.html.j2", link="best and worst",
        absent="metrics.parquet is not in the folder, or the primary metric applies to no unit: there is nothing to "
        "rank.",
    ),
    Section("curves", "Training", curves, "screens/curves.html.j2", NO_CURVES),
    Section(
        "calibration", "Can the metrics be trusted on this data?", calibration, "screens/calibration.html.j2",
        link="trust",
        absent="No calibration: the data hold no cells to split into two halves, or this run was scored without.",
    ),
    Section("split", "Split", split, "screens/split.html.j2", NO_SPLIT),
    Section("data", "Data", data, "screens/data.html.j2", NO_DATA),
)  # fmt: skip


def _table(run: ScreenFolder) -> ScoreTable:
    return ScoreTable.of(run.metrics, run.metrics.calibration)


def _units(run: ScreenFolder, table: ScoreTable) -> list[Unit]:
    return units_of(run, run.metrics.primary, table.baseline.label if table.baseline else None)


def _upward(table: ScoreTable) -> bool:
    return table.primary is None or table.primary.higher_is_better


def _subgroups(by_seen: Sequence[ScoreRow], columns: Sequence[Column], roles: RowRoles) -> list[GroupTable]:
    """Return the headline metrics by subgroup; none where there are no combinations."""
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


def _split(run: ScreenFolder) -> ScreenSplitCounts | None:
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
    in_order = {role: names[role] for role in roles if role in names}
    return ScreenSplitCounts(counts, fold, data.split_hash or "", in_order)


def _by_role(found: set[str]) -> list[str]:
    return [role for role in ROLES if role in found] + sorted(found - set(ROLES))
