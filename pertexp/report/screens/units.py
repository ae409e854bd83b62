"""The held-out units one by one: how well each was predicted, the size of its true effect, and which ones are shown."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from pertexp.config.errors import DataError
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.metrics.correlation import pearson
from pertexp.report.screens.reading import UNIT_AND_FOLD, ScreenFolder

Key = tuple[str, str, int]  # perturbation, context, fold
SIGNIFICANT = 0.05
SHOWN = 3
LISTED = 5


@dataclass(frozen=True)
class Unit:
    """One held-out perturbation in one context.

    Attributes
    ----------
    label
        Perturbation, with its context and fold where there are several.
    own, baseline
        The model's value on the primary metric, and that of the best baseline.
    effect
        Norm of the true effect over all genes; NaN where predictions.h5ad is not there.
    n_significant
        Genes whose adjusted p-value is below 0.05; None where nothing was tested.
    """

    label: str
    own: float
    baseline: float
    effect: float
    n_significant: int | None


@dataclass(frozen=True, eq=False)
class Effect:
    """Observed and predicted change against control of one unit, gene by gene.

    Attributes
    ----------
    unit, why
        The unit, and why it is shown: best, worst, largest effect.
    genes
        `[G]` names.
    observed, predicted
        `[G]` mean minus control, on the frame's scale; or the size of that, and a score that ranks genes by it.
    own_target
        `[G]` the gene is a member of the perturbation.
    r
        Pearson correlation of the two, Spearman where ranks alone are compared; NaN where one does not vary.
    same_scale
        Whether both are on one scale, so that equal numbers are a perfect prediction.
    """

    unit: Unit
    why: str
    genes: tuple[str, ...]
    observed: np.ndarray
    predicted: np.ndarray
    own_target: np.ndarray
    r: float
    same_scale: bool = True


def units_of(run: ScreenFolder, metric: str, baseline: str | None) -> list[Unit]:
    """Return units on one metric, in the order of the file; empty where metrics.parquet is not there."""
    if run.per_unit is None:
        return []
    table = run.per_unit[run.per_unit["metric"] == metric]
    own = table[table["model"] == run.metrics.model].drop_duplicates(UNIT_AND_FOLD).set_index(UNIT_AND_FOLD)["value"]
    other = (
        table[table["model"] == baseline]
        .drop_duplicates(UNIT_AND_FOLD)
        .set_index(UNIT_AND_FOLD)["value"]
        .reindex(own.index)
    )
    keys = [(str(name), str(context), int(fold)) for name, context, fold in own.index]
    effects, significant = _of_truth(run.frame, keys)
    labels = _labels(keys)
    rows = zip(labels, own.astype(float), other.astype(float), effects, significant, strict=True)
    return [Unit(label, a, b, size, count) for label, a, b, size, count in rows]


def ranked(units: list[Unit], higher_is_better: bool) -> list[int]:
    """Return Positions of the units from best to worst on the primary metric; those without a value are left out."""
    sign = -1.0 if higher_is_better else 1.0
    defined = [position for position, unit in enumerate(units) if np.isfinite(unit.own)]
    return sorted(defined, key=lambda position: (sign * units[position].own, units[position].label))


def effects_of(run: ScreenFolder, units: list[Unit], higher_is_better: bool) -> list[Effect]:
    """Return effects of the three best, the three worst and the two largest units; empty where there is no frame."""
    if run.frame is None or run.per_unit is None:
        return []
    if run.metrics.model not in run.frame.predictions:
        raise DataError(f"{run.folder / 'predictions.h5ad'} holds no prediction of {run.metrics.model}.")
    index = _own_index(run)
    position = {key: row for row, key in enumerate(_keys(run.frame))}
    return [
        _effect(run.frame, run.metrics.model, position[index[chosen]], units[chosen], why)
        for chosen, why in _chosen(units, higher_is_better).items()
        if index[chosen] in position
    ]


def _chosen(units: list[Unit], higher_is_better: bool) -> dict[int, str]:
    """Return which units to show, each once, and why."""
    order = ranked(units, higher_is_better)
    n = min(SHOWN, (len(order) + 1) // 2)
    sizes = [position for position, unit in enumerate(units) if np.isfinite(unit.effect)]
    largest = sorted(sizes, key=lambda position: -units[position].effect)[:2]
    why = dict.fromkeys(order[:n], "best predicted")
    worst = [position for position in reversed(order) if position not in why][:n]
    why |= dict.fromkeys(worst, "worst predicted")
    return why | {position: "largest effect" for position in largest if position not in why}


def _effect(frame: EvaluationFrame, model: str, row: int, unit: Unit, why: str) -> Effect:
    observed, predicted = frame.effects(model, row)
    ranks = (observed, predicted) if frame.same_scale else (rankdata(observed), rankdata(predicted))
    r = float(pearson(ranks[0][None], ranks[1][None])[0])
    return Effect(unit, why, frame.genes, observed, predicted, frame.own_target[row], r, frame.same_scale)


def _own_index(run: ScreenFolder) -> list[Key]:
    table = run.per_unit if run.per_unit is not None else pd.DataFrame(columns=["model", "metric", *UNIT_AND_FOLD])
    own = table[(table["model"] == run.metrics.model) & (table["metric"] == run.metrics.primary)]
    return [tuple(row) for row in own.drop_duplicates(UNIT_AND_FOLD)[UNIT_AND_FOLD].itertuples(index=False)]


def _keys(frame: EvaluationFrame) -> list[Key]:
    return list(zip(frame.perturbation, frame.context, frame.fold.tolist(), strict=True))


def _of_truth(frame: EvaluationFrame | None, index: list[Key]) -> tuple[list[float], list[int | None]]:
    """Norm of the true effect and number of significant genes of each unit."""
    if frame is None:
        return [float("nan")] * len(index), [None] * len(index)
    norms = np.linalg.norm(frame.truth - frame.reference, axis=1)
    tested = ~np.isnan(frame.de_fdr).any(axis=1)
    counts = (frame.de_fdr < SIGNIFICANT).sum(axis=1)
    position = {key: row for row, key in enumerate(_keys(frame))}
    rows = [position.get(key) for key in index]
    effects = [float("nan") if row is None else float(norms[row]) for row in rows]
    return effects, [int(counts[row]) if row is not None and tested[row] else None for row in rows]


def _labels(index: list[Key]) -> list[str]:
    contexts, folds = (len({key[part] for key in index}) > 1 for part in (1, 2))
    return [
        name + (f" in {context}" if contexts else "") + (f", fold {fold}" if folds else "")
        for name, context, fold in index
    ]
