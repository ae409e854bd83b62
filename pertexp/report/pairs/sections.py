"""The sections of the page of a run on pairs, in their order."""

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
from pertexp.report.pairs.tables import chance_of, group_label, group_table, pair_footnotes, pair_tiles
from pertexp.report.provenance import data_notes
from pertexp.report.score_table import ScoreTable
from pertexp.report.sections import NO_CURVES, NO_DATA, NO_SPLIT, Section, Values
from pertexp.report.tables import Column, GroupTable, Row, left_out
from pertexp.report.training_figures import training_multiples
from pertexp.runs.schema import GroupScore, PairMetrics, PairRecord

_ROLES = ("train", "val", "test", "excluded")
_MOST_RANKINGS = 8


@dataclass(frozen=True)
class PairSplitCounts:
    """Counts of pairs by role, and by cell line and role."""

    tests: str
    fold: str
    hash: str
    roles: list[str]
    counts: list[int | None]
    by_line: list[tuple[str, list[int]]]


def glance(run: PairFolder) -> Values | None:
    """Show the primary metric: the model among its baselines, and chance."""
    table, prevalence = ScoreTable.of(run.metrics), _prevalence(run.metrics)
    if table.primary is None:
        return None
    chance = chance_of(table.primary.name, prevalence)
    tiles = pair_tiles(table.rows, table.baseline, table.primary, prevalence)
    return {"tiles": tiles, "ladder": figures.ladder(table.rows, table.primary, chance=chance)}


def scores(run: PairFolder) -> Values:
    """Show all scores, by family, and by line and fold."""
    metrics, table = run.metrics, ScoreTable.of(run.metrics)
    return {
        "families": table.families,
        "footnotes": pair_footnotes(table.roles, _prevalence(metrics), metrics.bootstrap.over),
        "notes": [*metrics.notes, *left_out(metrics.aggregate, table.columns, metrics.model, "pair")],
        "only": _only(metrics),
        **_groups(metrics, table.roles, table.columns),
        "thresholds": list(metrics.thresholds.items()),
    }


def rankings(run: PairFolder) -> Values | None:
    """Show how the model and the best baseline rank the pairs of each line, and how far to believe them."""
    shown = _rankings(run, ScoreTable.of(run.metrics).baseline)
    left = max(0, len(_cells(run.predictions)) - len(shown))
    return {"rankings": shown, "rankings_left": left} if shown else None


def criteria(run: PairFolder) -> Values:
    """Show the success criteria of a model, and its other diagnostics."""
    metrics = run.metrics
    named = {criterion.quantity for criterion in metrics.success_criteria}
    rest = {name: found for name, found in metrics.diagnostics.items() if name not in named}
    return {"model": metrics.model, "criteria": metrics.success_criteria, "diagnostics": rest}


def gap(run: PairFolder) -> Values:
    """Show scores from training to test pairs, and over draws of the support sets."""
    return {"gap": run.metrics.generalisation, "draws": run.metrics.support_draws}


def curves(run: PairFolder) -> Values | None:
    """Show the loss over training, and whatever else was logged."""
    if run.curves is None:
        return None
    loss = figures.learning_curves(run.curves)
    multiples = training_multiples(run.curves, run.data.lines if run.data else [])
    return {"curves": loss, "multiples": multiples} if loss or multiples else None


def split(run: PairFolder) -> Values | None:
    """Show who was trained and tested on."""
    found = _split(run)
    return None if found is None else {"split": found}


def data(run: PairFolder) -> Values | None:
    """Show what the data are."""
    return None if run.data is None else {"data": run.data, "notes": data_notes(run)}


SECTIONS: tuple[Section[PairFolder], ...] = (
    Section("glance", "", glance, "glance.html.j2", in_header=True),
    Section("scores", "Scores", scores, "pairs/scores.html.j2"),
    Section(
        "ranking", "Ranking and calibration", rankings, "pairs/ranking.html.j2",
        absent="predictions.parquet is not in the folder, or holds no line with pairs of both labels: there is no "
        "ranking to show.",
    ),
    Section("criteria", "Success criteria", criteria, "pairs/criteria.html.j2"),
    Section("gap", "From training to test pairs", gap, "pairs/gap.html.j2", link="generalisation"),
    Section("curves", "Training", curves, "pairs/curves.html.j2", NO_CURVES),
    Section("split", "Split", split, "pairs/split.html.j2", NO_SPLIT),
    Section("data", "Data", data, "pairs/data.html.j2", NO_DATA),
)  # fmt: skip


def _prevalence(metrics: PairMetrics) -> float:
    own = ((row.model, row.metric) == (metrics.model, metrics.primary) for row in metrics.aggregate)
    return next((row.prevalence for row, mine in zip(metrics.aggregate, own, strict=True) if mine), math.nan)


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
    """Return the line and fold that all was tested on, with its size; empty where there are several."""
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


def _split(run: PairFolder) -> PairSplitCounts | None:
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
    return PairSplitCounts(data.tests, ", ".join(map(str, folds)), data.split_hash or "", roles, counts, rows)
