"""What the page of a run on pairs says, in the order in which it says it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pertexp.evaluation.roles import RowRoles
from pertexp.metrics.pairs import ScoredPairs
from pertexp.report import figures
from pertexp.report.pairs.figures import Ranking, ranking
from pertexp.report.pairs.reading import PairFolder
from pertexp.report.pairs.tables import (
    chance_of,
    group_label,
    group_table,
    pair_footnotes,
    pair_tiles,
)
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
from pertexp.report.training_figures import Multiples, training_multiples
from pertexp.report.verdicts import Verdict, verdict_of
from pertexp.runs.schema import (
    Diagnostic,
    Generalisation,
    GroupScore,
    PairMetrics,
    PairRecord,
    SuccessCriterion,
    SupportDraws,
)

_ROLES = ("train", "val", "test", "excluded")
_MOST_RANKINGS = 8


@dataclass(frozen=True)
class PairSplitPage:
    """Who was trained and tested on: counts by role, and by line and role."""

    tests: str
    fold: str
    hash: str
    roles: list[str]
    counts: list[int | None]
    by_line: list[tuple[str, list[int]]]


@dataclass(frozen=True)
class PairPage:
    """All that the template needs: plain values, tables and drawn figures."""

    model: str
    verdict: Verdict
    notes: list[str]
    primary: Column | None
    tiles: list[Tile]
    ladder: str | None
    families: list[FamilyTable]
    footnotes: list[str]
    only: str
    by_line: list[GroupTable]
    by_fold: list[GroupTable]
    pooled: list[GroupTable]
    rankings: list[Ranking]
    rankings_left: int
    criteria: list[SuccessCriterion]
    diagnostics: dict[str, Diagnostic]
    gap: Generalisation
    draws: SupportDraws | None
    thresholds: list[tuple[str, float | None]]
    curves: str | None
    multiples: list[Multiples]
    split: PairSplitPage | None
    data: PairRecord | None


def pair_page_of(run: PairFolder) -> PairPage:
    """Work out what a run has to say."""
    summary, roles = run.metrics, RowRoles.of_metrics(run.metrics)
    columns = columns_of(summary.aggregate, [])
    rows = rows_of(summary.aggregate, roles)
    primary = next((column for column in columns if column.name == summary.primary), None)
    baseline = None if primary is None else best_row([row for row in rows if row.kind == "baseline"], primary)
    prevalence = _prevalence(summary)
    rankings = _rankings(run, baseline)
    named = {criterion.quantity for criterion in summary.success_criteria}
    return PairPage(
        model=summary.model,
        verdict=verdict_of(summary.model, summary.verdict, summary.not_counted),
        notes=[*summary.notes, *left_out(summary.aggregate, columns, summary.model, "pair")],
        primary=primary,
        tiles=[] if primary is None else pair_tiles(rows, baseline, primary, prevalence),
        ladder=_ladder(rows, primary, prevalence),
        families=family_tables(columns, rows),
        footnotes=pair_footnotes(roles, prevalence, summary.bootstrap.over),
        only=_only(summary),
        **_groups(summary, roles, columns),
        rankings=rankings,
        rankings_left=max(0, len(_cells(run.predictions)) - len(rankings)),
        criteria=summary.success_criteria,
        diagnostics={name: found for name, found in summary.diagnostics.items() if name not in named},
        gap=summary.generalisation,
        draws=summary.support_draws,
        thresholds=list(summary.thresholds.items()),
        curves=None if run.curves is None else figures.learning_curves(run.curves),
        multiples=[] if run.curves is None else training_multiples(run.curves, run.data.lines if run.data else []),
        split=_split(run),
        data=run.data,
    )


def _prevalence(metrics: PairMetrics) -> float:
    own = ((row.model, row.metric) == (metrics.model, metrics.primary) for row in metrics.aggregate)
    return next((row.prevalence for row, mine in zip(metrics.aggregate, own, strict=True) if mine), math.nan)


def _ladder(rows: Sequence[Row], primary: Column | None, prevalence: float) -> str | None:
    if primary is None:
        return None
    return figures.ladder(rows, primary, chance=chance_of(primary.name, prevalence))


def _groups(summary: PairMetrics, roles: RowRoles, columns: Sequence[Column]) -> dict[str, list[GroupTable]]:
    """Headline metrics by line, by fold where a line has several, and over all pairs where there are several groups."""

    def tables(values: Sequence[GroupScore], group: str) -> list[GroupTable]:
        headline = [column for column in columns if column.level == "headline"]
        found = [group_table(values, column, roles, _NAMES[group]) for column in headline]
        return [table for table in found if table.groups]

    cells = {(value.cell_line, value.fold) for value in summary.by_fold}
    lines = {line for line, _ in cells}
    return {
        "by_line": tables(summary.by_line, "line") if len(cells) > 1 else [],
        "by_fold": tables(summary.by_fold, "fold") if len(cells) > len(lines) else [],
        "pooled": tables(summary.pooled, "all") if len(cells) > 1 else [],
    }


def _only(summary: PairMetrics) -> str:
    """The line and fold that all was tested on, with its size; empty where there are several."""
    cells = {(value.cell_line, value.fold): group_label(value.cell_line, value) for value in summary.by_fold}
    return next(iter(cells.values())) if len(cells) == 1 else ""


_NAMES: dict[str, Callable[[GroupScore], str]] = {
    "line": lambda one: one.cell_line,
    "fold": lambda one: f"{one.cell_line}, fold {one.fold}",
    "all": lambda one: "all pairs at once",  # noqa: ARG005
}


def _cells(predictions: pd.DataFrame | None) -> list[tuple[str, int]]:
    """Cell lines and folds that can be ranked, since they hold both labels."""
    if predictions is None:
        return []
    labels = predictions.groupby(["cell_line", "fold"])["label"].nunique()
    return [(str(line), int(fold)) for line, fold in labels.index[labels == 2]]


def _rankings(run: PairFolder, baseline: Row | None) -> list[Ranking]:
    """Figures for each cell line and fold, of the model and the best baseline."""
    table, names = run.predictions, [run.metrics.model, *([baseline.label] if baseline else [])]
    if table is None:
        return []
    cells = _cells(table)[:_MOST_RANKINGS]
    folds = len({fold for _, fold in cells}) > 1
    found = []
    for position, (line, fold) in enumerate(cells):
        part = table[(table["cell_line"] == line) & (table["fold"] == fold)]
        views = {name: _view(part[part["model"] == name]) for name in names if (part["model"] == name).any()}
        if views:
            found.append(ranking(f"{line}, fold {fold}" if folds else line, views, position))
    return found


def _view(part: pd.DataFrame) -> ScoredPairs:
    return ScoredPairs(part["probability"].to_numpy(dtype=np.float64), part["label"].to_numpy())


def _split(run: PairFolder) -> PairSplitPage | None:
    if run.data is None and run.split is None:
        return None
    data = run.data or PairRecord()
    folds = [data.fold] if data.fold is not None else run.folds
    by_line = pd.DataFrame()
    if run.split is not None and len(folds) == 1 and f"fold{folds[0]}" in run.split:
        by_line = pd.crosstab(run.split["cell_line"], run.split[f"fold{folds[0]}"])
    found = {*by_line.columns, *data.pairs_by_role}
    roles = [role for role in _ROLES if role in found] + sorted(found - set(_ROLES))
    totals = data.pairs_by_role or by_line.sum().to_dict()
    table = by_line.reindex(columns=roles, fill_value=0)
    rows = [(str(line), [int(count) for count in row]) for line, row in zip(table.index, table.to_numpy(), strict=True)]
    counts = [totals.get(role) for role in roles]
    return PairSplitPage(data.tests, ", ".join(map(str, folds)), data.split_hash or "", roles, counts, rows)
