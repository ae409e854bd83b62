"""Tables of screens: the replicate, calibrated values, and footnotes."""

from collections.abc import Sequence

from pertexp.evaluation.roles import REPLICATE
from pertexp.evaluation.screens.scoring import EFFECT
from pertexp.report.screens.console import CEILING, REFERENCES
from pertexp.report.tables import ARROWS, Column, Row, Tile, number, tile


def screen_tiles(rows: Sequence[Row], baseline: Row | None, column: Column) -> list[Tile]:
    """Return the model, the best baseline, the replicate, and the calibrated value of the model."""
    own = next((row for row in rows if row.kind == "model"), None)
    replicate = next((row for row in rows if row.kind == REPLICATE), None)
    found = tile(own, own.label if own else "", column)
    found += tile(baseline, f"best baseline: {baseline.label}" if baseline else "", column)
    found += tile(replicate, "replicate: one half of the cells predicts the other", column)
    if own is not None and column.name in own.values:
        doubt = "" if column.trusted else " † not to be trusted here"
        calibrated = number(own.values[column.name].calibrated, 2)
        found.append(Tile("", f"calibrated: {column.zero} 0, replicate 1", calibrated, f"{column.name}{doubt}"))
    return found


def screen_footnotes(columns: Sequence[Column]) -> list[str]:
    """Return how the table of a screen is to be read."""
    said = [
        f"★ best of the column, truth and replicate aside. {ARROWS}",
        "In brackets: 95 % bootstrap interval over perturbations.",
        "cal: the same score on the line where a prediction that knows nothing of the perturbation is 0 and the "
        "replicate 1.",
        *([f"{REFERENCES}."] if any(column.name == EFFECT for column in columns) else []),
        f"truth: {CEILING}.",
        "replicate: one half of the real cells predicts the other half; no bound, since a model can be less noisy "
        "than half of the cells.",
    ]
    if all(column.trusted for column in columns):
        return said
    return [
        *said,
        "† on this data half of the cells does not beat knowing nothing of the perturbation (BDS below 0.5), or has "
        "no value to show it.",
    ]
