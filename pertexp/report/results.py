"""Tables of settings for the console and for CSV files: rendered from `results.tables`; nothing is computed."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from pertexp.evaluation.comparison import ScoredRows
from pertexp.evaluation.results.tables import LabelledSetting, ResultRow, ResultsTable, ResultValue
from pertexp.metrics.registry import METRICS
from pertexp.report.sentences import interval_text, outcome_words, verdict_sentences
from pertexp.report.settings import SettingsText
from pertexp.runs.schema import Comparison

_METRICS = 4


def settings_frame(tables: Sequence[ResultsTable[ScoredRows]]) -> pd.DataFrame:
    """Return all rows of all tables, as sweep.csv holds them.

    Columns: table (its number), data, role, model, the swept keys, `chosen` where something was chosen on validation,
    folds, seeds, and per metric its mean, `<metric>_sd` over seeds, `<metric>_low` and `<metric>_high`.
    """
    rows = [
        {"table": number, "data": table.data_name, **_record(row, table)}
        for number, table in enumerate(tables, start=1)
        for row in table.rows
    ]
    return pd.DataFrame(rows)


def comparison_frame(
    tables: Sequence[ResultsTable[ScoredRows]], references: Sequence[Sequence[Comparison]]
) -> pd.DataFrame:
    """Return the comparisons of all tables, as comparison.csv holds them: the verdict, then those of settings."""
    rows: list[dict[str, Any]] = []
    for number, (table, of_settings) in enumerate(zip(tables, references, strict=True), start=1):
        named = table.best.label
        verdict = [{"setting": named, **vars(found)} for found in table.verdict]
        settings = [{"setting": found.model, **vars(found)} for found in of_settings]
        rows += [{"table": number, **row} for row in [*verdict, *settings]]
    columns = ["table", "setting", "basis", "model", "reference", "metric", "difference", "low", "high", "n", "over",
               "outcome", "trusted"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def settings_title(table: ResultsTable[ScoredRows]) -> str:
    """Say what the table is, in one line."""
    return (
        f"{table.n_runs} jobs on {table.data_name}, folds together, mean ± s.d. over seeds, best {table.primary} first"
    )


def settings_console(table: ResultsTable[ScoredRows]) -> Table:
    """Lay the table out for the console: what was swept, then four metrics, mean ± s.d. over seeds."""
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    keys = [key for key in table.swept if key != "model"]
    for name in ["model", *keys, "folds", "seeds"]:
        out.add_column(name.replace(".", ".\n"), overflow="fold")
    metrics = shown_metrics(table)
    for name in metrics:
        out.add_column(name.replace("_", "_\n", 1), justify="right", no_wrap=True)
    for position, row in enumerate(table.rows):
        words = [row.model, *(row.overrides.get(key, "") for key in keys), str(row.folds), str(row.seeds)]
        cells = [_mean_and_sd(row.values.get(metric)) for metric in metrics]
        out.add_row(*words, *cells, style="bold" if position == 0 else None)
    return out


def shown_metrics(table: ResultsTable[ScoredRows]) -> list[str]:
    """Return the primary metric and up to three others of the headline."""
    headline = [name for name in table.metrics if METRICS[name].level == "headline"]
    return list(dict.fromkeys([table.primary, *headline]))[:_METRICS]


def selection_text(table: ResultsTable[ScoredRows]) -> str:
    """Say how the best setting was chosen; empty where there was nothing to choose."""
    said = []
    if table.chosen:
        first = table.chosen[0][1][0]
        said.append(f"{', '.join(first.values)} chosen in each fold by {first.metric}, on validation units")
    if len(table.settings) > 1:
        said.append(f"best of {len(table.settings)} settings, chosen on these units: {table.best.label}")
    if table.best.setting.n_seeds > 1:
        said.append(f"every unit is the mean over {table.best.setting.n_seeds} seeds")
    return "; ".join(said)


def verdict_lines(table: ResultsTable[ScoredRows], text: SettingsText[ScoredRows]) -> list[str]:
    """Say how the best setting was chosen, what was tested, and the verdict."""
    selection = selection_text(table)
    sentences = verdict_sentences(table.best.setting.model, table.verdict, table.best.roles.not_counted)
    chosen = [f"{one.label}: {chosen_text(one)}" for one, _ in table.chosen]
    return [*chosen, *([selection] if selection else []), *text.notes(table), *sentences]


def reference_title(table: ResultsTable[ScoredRows], reference: str, found: Sequence[Comparison]) -> str:
    """Say what a table of comparisons with a reference shows."""
    return f"{table.primary} of every setting minus that of {reference}; paired over {found[0].over}"


def reference_console(found: Sequence[Comparison], reference: str) -> Table:
    """Lay comparisons with a reference out for the console."""
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("setting", "difference", f"than {reference}"):
        out.add_column(name, overflow="fold")
    for one in found:
        out.add_row(one.model, interval_text(one), outcome_words(one))
    return out


def _record(row: ResultRow, table: ResultsTable[ScoredRows]) -> dict[str, Any]:
    record: dict[str, Any] = {"role": row.role, "model": row.model}
    record |= {key: row.overrides.get(key, "") for key in table.swept if key != "model"}
    if table.chosen:
        record["chosen"] = _chosen(row, table)
    record |= {"folds": row.folds, "seeds": row.seeds}
    for metric, value in row.values.items():
        record |= {
            metric: value.mean,
            f"{metric}_sd": value.sd,
            f"{metric}_low": value.low,
            f"{metric}_high": value.high,
        }
    return record


def _chosen(row: ResultRow, table: ResultsTable[ScoredRows]) -> str:
    """Return what was chosen for the setting of a row: `optimizer.lr=0.1 (2, 3)`, the folds in brackets."""
    own = next((one for one in table.settings if row.role == "model" and one.label == row.label), None)
    return "" if own is None else chosen_text(own)


def chosen_text(one: LabelledSetting[ScoredRows]) -> str:
    """Say what was chosen on validation in the folds of a setting."""
    folds: dict[str, list[str]] = {}
    for chosen in one.setting.chosen:
        words = ", ".join(f"{key}={value}" for key, value in chosen.values.items())
        folds.setdefault(words, []).append(chosen.where)
    if len(folds) == 1:
        return next(iter(folds))
    return "; ".join(f"{words} ({_folds(dict.fromkeys(where))})" for words, where in folds.items())


def _folds(where: Iterable[str]) -> str:
    named = list(where)
    return f"fold{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _mean_and_sd(value: ResultValue | None) -> str:
    if value is None or math.isnan(value.mean):
        return "n/a"
    return f"{value.mean:.4f}" + ("" if math.isnan(value.sd) else f" ± {value.sd:.3f}")
