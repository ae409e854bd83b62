"""The console table of pairs: the model, itself masked, the baselines; what intervals are over, in words."""

import math
import textwrap
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pertexp.evaluation.pairs.scored_run import ScoredPairRun
from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.evaluation.roles import RowRoles
from pertexp.metrics.registry import METRICS
from pertexp.report.console import TableRow, blocks
from pertexp.report.sentences import criterion_text, verdict_sentences
from pertexp.runs.schema import Diagnostic, PairMetrics, RoleScore, Spread

WIDTH = 100


def render(scores: PairScores, roles: RowRoles, title: str, notes: Sequence[str] = ()) -> RenderableType:
    """Lay the scores out with footnotes; reads well at 100 columns."""
    lines = [Text(line, style="dim") for line in [*_footnotes(scores, roles), *notes]]
    heads = [Text(title, style="bold"), *(Text(line) for line in _units(scores))]
    return Group(*heads, *blocks(scores, rows_of(scores, roles)), *lines)


def run_console(report: ScoredPairRun, title: str) -> list[RenderableType]:
    """Show a run: the table, the verdict, success criteria and diagnostics."""
    metrics = report.metrics
    verdict = verdict_sentences(metrics.model, metrics.verdict, metrics.not_counted)
    return [render(report.scores, report.roles, title, _details(metrics)), *verdict, *_diagnostics(metrics)]


def _details(metrics: PairMetrics) -> list[str]:
    """Return the generalisation gap, the spread over support sets, and notes."""
    gap = metrics.generalisation
    of_role = (("train", gap.train), ("val", gap.val), ("test", gap.test))
    said = "; ".join(f"{role} {_role_score(score)}" for role, score in of_role if score is not None)
    by_chance = "" if gap.chance is None else f" ({gap.chance:+.3f} by chance)"
    lines = [f"auprc (prevalence): {said}; gap from training to test {gap.gap:+.3f}{by_chance}."]
    draws = metrics.support_draws
    if draws is not None:
        spread = f"{_spread('auprc', draws.auprc)}, {_spread('auroc', draws.auroc)}"
        lines.append(
            f"Over {draws.n_draws} draw(s) of the support sets, each of which leaves other pairs to score: {spread}."
        )
    return lines + [f"Note: {note}." for note in metrics.notes]


def _role_score(score: RoleScore) -> str:
    return f"{score.auprc:.3f} ({score.prevalence:.3f}; {score.n} pairs)"


def _spread(name: str, found: Spread) -> str:
    if math.isnan(found.sd):
        return f"{name} {found.mean:.3f}"
    return f"{name} {found.mean:.3f} ± {found.sd:.3f} ({found.min:.3f} to {found.max:.3f})"


def _diagnostics(metrics: PairMetrics) -> list[str]:
    named = {criterion.quantity for criterion in metrics.success_criteria}
    rest = {name: found for name, found in metrics.diagnostics.items() if name not in named}
    return [
        *(criterion_text(criterion) for criterion in metrics.success_criteria),
        *(f"diagnostic: {name} {_diagnostic(found)}" for name, found in rest.items()),
    ]


def _diagnostic(found: Diagnostic) -> str:
    chance = "" if found.chance is None or math.isnan(found.chance) else f" (chance {found.chance:.3g})"
    return f"{found.value:.3g}{chance}{'; ' if found.note else ''}{found.note}"


def rows_of(scores: PairScores, roles: RowRoles) -> list[TableRow]:
    """Return the rows in order; masked ones are no competitors, and those that are not counted are marked."""
    present = roles.among(scores.models)
    masked = [TableRow(name, f"  {present.short(name)}", competes=False) for name in present.masked]
    baselines = [TableRow(name, name, opens_section=place == 0) for place, name in enumerate(present.baselines)]
    others = [
        TableRow(name, f"{name} ‡", competes=False, opens_section=not baselines and place == 0)
        for place, name in enumerate(present.not_counted)
    ]
    return [TableRow(present.model, present.model), *masked, *baselines, *others]


def _units(scores: PairScores) -> list[str]:
    """Return how many pairs of which lines, with the share of positives."""
    lines = [
        f"{name}: {len(rows)} pairs, {scores.units['label'].to_numpy()[rows].mean():.1%} positive"
        for name, rows in scores.lines.items()
    ]
    said = f"{len(scores.units)} pairs, {len(scores.lines)} cell line(s), {scores.n_folds} fold(s). "
    return textwrap.wrap(said + "; ".join(lines) + ".", WIDTH)


def _footnotes(scores: PairScores, roles: RowRoles) -> list[str]:
    prevalence = float(scores.aggregate["prevalence"].iloc[0])
    lines = [
        f"auprc by chance: the share of positives, {prevalence:.3f}; auroc: 0.5.",
        f"Means over cell lines{_of_folds(scores)}; 95 % bootstrap intervals {scores.over}.",
        "calibration_error: chance alone adds to it, so its intervals lie too high.",
        "* best of the model and the baselines that count; ↑ higher is better, ↓ lower is better.",
    ]
    if roles.masked:
        lines.append("Indented: the model with part of its input taken away at inference.")
    if roles.among(scores.models).not_counted:
        lines.append("‡ shown, and not counted in the verdict, which says why.")
    return lines + _left_out(scores)


def _of_folds(scores: PairScores) -> str:
    return " of the means over folds" if scores.n_folds > 1 else ""


def _left_out(scores: PairScores) -> list[str]:
    """Return metrics that do not apply to some pairs, and why."""
    found: dict[str, list[str]] = {}
    for row in scores.aggregate.to_dict("records"):
        if row["model"] == scores.models[0] and row["n_left_out"]:
            found.setdefault(f"{row['n_left_out']} pairs ({METRICS[row['metric']].missing})", []).append(row["metric"])
    return [f"Not applicable for {why}: {', '.join(names)}." for why, names in found.items()]
