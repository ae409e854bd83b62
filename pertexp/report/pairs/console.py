"""The console table of pairs: the model, itself masked, the baselines; what intervals are over, in words."""

import textwrap
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pertexp.evaluation.pairs.lineup import Lineup
from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.metrics.registry import METRICS
from pertexp.report.console import TableRow, blocks

WIDTH = 100


def render(scores: PairScores, lineup: Lineup, title: str, notes: Sequence[str] = ()) -> RenderableType:
    """Lay the scores out with footnotes; reads well at 100 columns."""
    lines = [Text(line, style="dim") for line in [*_footnotes(scores, lineup), *notes]]
    heads = [Text(title, style="bold"), *(Text(line) for line in _units(scores))]
    return Group(*heads, *blocks(scores, rows_of(scores, lineup)), *lines)


def rows_of(scores: PairScores, lineup: Lineup) -> list[TableRow]:
    """The rows in order; masked ones are no competitors, and those that are not counted are marked."""
    present = lineup.among(scores.models)
    masked = [TableRow(name, f"  {present.bare(name)}", competes=False) for name in present.masked]
    rivals = [TableRow(name, name, opens_section=place == 0) for place, name in enumerate(present.rivals)]
    others = [
        TableRow(name, f"{name} ‡", competes=False, opens_section=not rivals and place == 0)
        for place, name in enumerate(present.not_counted)
    ]
    return [TableRow(present.model, present.model), *masked, *rivals, *others]


def _units(scores: PairScores) -> list[str]:
    """How many pairs of which lines, with the share of positives."""
    lines = [
        f"{name}: {len(rows)} pairs, {scores.units['label'].to_numpy()[rows].mean():.1%} positive"
        for name, rows in scores.lines.items()
    ]
    folds = sorted(set(scores.units["fold"]))
    said = f"{len(scores.units)} pairs, {len(scores.lines)} cell line(s), {len(folds)} fold(s). "
    return textwrap.wrap(said + "; ".join(lines) + ".", WIDTH)


def _footnotes(scores: PairScores, lineup: Lineup) -> list[str]:
    prevalence = float(scores.aggregate["prevalence"].iloc[0])
    lines = [
        f"auprc of what knows nothing: the share of positives, {prevalence:.3f}; auroc: 0.5.",
        f"Means over cell lines{_of_folds(scores)}; 95 % bootstrap intervals {scores.resamples.said}.",
        "calibration_error: chance alone adds to it, so its intervals lie too high.",
        "* best of the model and the baselines that count; ↑ higher is better, ↓ lower is better.",
    ]
    if lineup.masked:
        lines.append("Indented: the model with part of its input taken away at inference.")
    if lineup.among(scores.models).not_counted:
        lines.append("‡ shown, and not counted in the verdict, which says why.")
    return lines + _left_out(scores)


def _of_folds(scores: PairScores) -> str:
    return " of the means over folds" if scores.units["fold"].nunique() > 1 else ""


def _left_out(scores: PairScores) -> list[str]:
    """Metrics that do not apply to some pairs, and why."""
    found: dict[str, list[str]] = {}
    for row in scores.aggregate.to_dict("records"):
        if row["model"] == scores.models[0] and row["n_left_out"]:
            found.setdefault(f"{row['n_left_out']} pairs ({METRICS[row['metric']].missing})", []).append(row["metric"])
    return [f"Not applicable for {why}: {', '.join(names)}." for why, names in found.items()]
