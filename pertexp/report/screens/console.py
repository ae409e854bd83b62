"""The console table of a score: models by metrics, intervals beneath, what is missing in words."""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pertexp.evaluation.contract import CalibrationScores
from pertexp.evaluation.roles import REPLICATE, TRUTH
from pertexp.evaluation.screens.evaluation import ScoredScreenRun
from pertexp.evaluation.screens.scoring import EFFECT, Scores
from pertexp.metrics.registry import METRICS
from pertexp.report.console import TableRow, blocks
from pertexp.report.sentences import verdict_sentences


def render(scores: Scores, title: str, notes: Sequence[str] = ()) -> RenderableType:
    """Lay the scores out as tables of at most five metrics, with footnotes; reads well at 100 columns.

    Metrics that are a matter of detail, or that apply to no unit, are left to the page and the files.
    """
    said = [*_footnotes(scores), *(f"{note}." for note in notes if note not in scores.notes)]
    lines = [Text(line, style="dim") for line in said]
    return Group(Text(title, style="bold"), *blocks(scores, _rows(scores)), *lines)


def run_console(report: ScoredScreenRun, title: str) -> list[RenderableType]:
    """Show a run: the table, the verdict, and what was found of a planted truth."""
    metrics = report.metrics
    lines = verdict_sentences(metrics.model, metrics.verdict, metrics.not_counted)
    if report.recovery:
        lines.append("planted truth: " + "; ".join(f"{name} {value:.3f}" for name, value in report.recovery.items()))
    return [render(report.scores, title, metrics.notes), *lines]


def render_calibration(scores: CalibrationScores, title: str) -> RenderableType:
    """Lay out a row a metric: negative control, replicate, DRF and BDS with intervals, a mark where not to trust it."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("metric", overflow="fold")
    for name in ("knows nothing", "replicate", "DRF", "BDS"):
        table.add_column(name, justify="right", no_wrap=name.isupper())
    detail = {name for name in scores.calibration["metric"] if METRICS[name].level == "detail"}
    for row in scores.calibration.to_dict("records"):
        if row["metric"] in detail:
            continue
        spans = (f"{row[k]:.2f} [{row[f'{k}_low']:.2f}, {row[f'{k}_high']:.2f}]" for k in ("drf", "bds"))
        ends = (f"{row[k]:.3g}" for k in ("zero", "one"))
        cells = (cell.replace("nan [nan, nan]", "n/a").replace("nan", "n/a") for cell in (*ends, *spans))
        table.add_row(f"{row['metric']}{'' if row['trusted'] else ' †'}", *cells)
    lines = [_CALIBRATION, *(f"{note}." for note in scores.notes)]
    lines += [f"{len(detail)} more metrics, a matter of detail, stand in calibration.json."] if detail else []
    return Group(table, *(Text(line, style="dim") for line in lines))


REFERENCES = (
    "effects: of predictions against fitted control cells, of the truth against held-out ones; ..._shared_control: "
    "against all, on both sides. pearson_delta counts the perturbed genes, ..._without_targets does not"
)
CEILING = (
    "the true means as a prediction; against held-out controls it falls short of 1 by the noise of control means, and "
    "no model is expected above it"
)
_CALIBRATION = (
    "knows nothing: the mean of the training perturbations (no change, for effects against that mean; their mean "
    "impact, for rankings of genes). DRF: the share of the way from there to perfect that half of the cells covers, "
    "median over perturbations. BDS: how often half of the cells scores better; below 0.5 (†) a metric cannot tell "
    "models apart here. Brackets: 95 % bootstrap intervals."
)


def plain_text(scores: Scores, title: str, width: int = 100) -> str:
    """`render` as text without colour, for a log."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, color_system=None, force_terminal=False, legacy_windows=False, markup=False
    )
    console.print(render(scores, title))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _rows(scores: Scores) -> list[TableRow]:
    labels: dict[str, str] = {TRUTH: f"{TRUTH} (ceiling)", REPLICATE: f"{REPLICATE} (half vs half)"}
    first = next((name for name in scores.models if name in labels), None)
    return [
        TableRow(name, labels.get(name, name), competes=name not in labels, opens_section=name == first)
        for name in scores.models
    ]


def _footnotes(scores: Scores) -> list[str]:
    lines = [_units(scores), "* best of the models and baselines; ↑ higher is better, ↓ lower is better."]
    if EFFECT in scores.metrics:
        lines.append(f"{REFERENCES}.")
    if TRUTH in scores.models:
        lines.append(f"{TRUTH}: {CEILING}.")
    if REPLICATE in scores.models:
        lines.append(
            f"{REPLICATE}: one half of the real cells predicts the other half, mean over random splits: how well the "
            "data agree with themselves. No bound: a model can be less noisy than half of the cells."
        )
    if doubted := _shown(scores.untrusted):
        lines.append(
            f"† not to be trusted on this data: half of the cells does not beat knowing nothing of the perturbation "
            f"({', '.join(doubted)})."
        )
    if "pearson_delta_mean" in scores.metrics and "no_change" in scores.models:
        lines.append(
            "pearson_delta_mean: seen from the training mean, no change moves against the mean effect, and so "
            "correlates "
            "with every perturbation whose effect is weaker than the mean."
        )
    lines.extend(f"{note}." for note in scores.notes)
    return lines + _worst_lines(scores) + _left_out_lines(scores)


def _shown(metrics: Sequence[str]) -> list[str]:
    """Return the metrics that the console shows."""
    return [name for name in metrics if METRICS[name].level != "detail"]


def _units(scores: Scores) -> str:
    units = scores.rows(scores.models[0], scores.metrics[0])
    counts = ", ".join(
        f"{units[column].nunique()} {what}"
        for column, what in (
            ("perturbation", "perturbation(s)"),
            ("context", "context(s)"),
            ("fold", "fold(s)"),
        )
    )
    over = "perturbations" if units["perturbation"].nunique() > 1 else "contexts and folds"
    intervals = f"; 95 % bootstrap intervals over {over}" if len(units) > 1 else ""
    return f"{len(units)} unit(s): {counts}; scale: {scores.scale}{intervals}."


def _worst_lines(scores: Scores) -> list[str]:
    """Name the models whose correlations are undefined and hence sit at -1."""
    table = scores.per_unit[scores.per_unit["value"] == -1.0]
    metrics: dict[str, list[str]] = {}
    for metric in _shown(scores.metrics):
        counts = table.loc[table["metric"] == metric, "model"].value_counts(sort=False)
        if len(counts):
            named = ", ".join(f"{model} ({count} units)" for model, count in counts.items())
            metrics.setdefault(named, []).append(metric)
    why = "an effect that is zero, or one and the same for all genes, has no correlation and counts as -1"
    return [f"{', '.join(names)}: {why}: {named}." for named, names in metrics.items()]


def _left_out_lines(scores: Scores) -> list[str]:
    """Name the metrics that some units cannot have, and why."""
    first = scores.aggregate[scores.aggregate["model"] == scores.models[0]]
    left_out: dict[tuple[str, int], list[str]] = {}
    for metric, count in zip(first["metric"], first["n_left_out"], strict=True):
        if count and METRICS[metric].level != "detail":
            left_out.setdefault((METRICS[metric].missing, int(count)), []).append(metric)
    return [
        f"Not applicable for {count} units ({why}): {', '.join(names)}." for (why, count), names in left_out.items()
    ]
