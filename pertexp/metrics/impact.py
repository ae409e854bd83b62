"""Metrics of impacts: how well scores of genes, larger where a perturbation moves a gene more, rank those that moved.

A gene has moved where its cells differ from control in a Wilcoxon test at FDR 0.05 (`Scored.significant`); how far is
the size of the observed effect, or |t|, that effect over its standard error. Own targets are left out, genes of equal
score count alike, and since ranks alone are compared, no value changes with the scale of the scores. Scores that are
all equal have no rank correlation, which counts as -1.
"""

from collections.abc import Callable

import numpy as np

from pertexp.metrics.core import Scored
from pertexp.metrics.correlation import spearman
from pertexp.metrics.metric import Level, Metric, table
from pertexp.metrics.ranking import auroc, average_precision, top_weights

DEPTHS = (20, 50, 100)
Values = Callable[[Scored], np.ndarray]


def _area(of: Callable[[np.ndarray, np.ndarray], float]) -> Values:
    """Return the area under a curve of each unit; NaN where no gene, or every gene, moved."""

    def area(view: Scored) -> np.ndarray:
        rows = zip(view.prediction, view.significant, ~view.own_target, strict=True)
        return np.array([of(score[use], label[use]) for score, label, use in rows])

    return area


def _precision(k: int) -> Values:
    """Return the share of genes that moved among the k of highest score; NaN where none did, or k are all there are."""

    def precision(view: Scored) -> np.ndarray:
        chosen = top_weights(view.prediction, ~view.own_target, k)
        found = (chosen * view.significant).sum(axis=1) / k
        return np.where(view.significant.any(axis=1) & _enough(view, k), found, np.nan)

    return precision


def _overlap(k: int) -> Values:
    """Return the share of the k genes of largest |t| among the k of highest score; NaN where k are all there are."""

    def overlap(view: Scored) -> np.ndarray:
        tested = ~np.isnan(view.de_score).any(axis=1)
        allowed = ~view.own_target
        true = top_weights(np.where(tested[:, None], view.de_score, 0.0), allowed, k)
        found = (top_weights(view.prediction, allowed, k) * true).sum(axis=1) / k
        return np.where(tested & _enough(view, k), found, np.nan)

    return overlap


def _enough(view: Scored, k: int) -> np.ndarray:
    return np.asarray((~view.own_target).sum(axis=1) > k)


def _rank_correlation(of: Values) -> Values:
    """Correlate ranks of scores with those of a size `[U, G]`; -1 where scores are all equal, NaN where sizes are."""

    def correlation(view: Scored) -> np.ndarray:
        rows = zip(view.prediction, of(view), ~view.own_target, strict=True)
        return np.array([_spearman(score[use], size[use]) for score, size, use in rows])

    return correlation


def _spearman(score: np.ndarray, size: np.ndarray) -> float:
    if np.isnan(size).any() or size.size < 2 or np.ptp(size) == 0:
        return np.nan
    return float(np.nan_to_num(spearman(score, size), nan=-1.0))


def _size(view: Scored) -> np.ndarray:
    """Return the size of true effects; NaN rows where they have no reference."""
    return np.where(view.has_reference[:, None], np.abs(view.true_effect), np.nan)


def _row(
    name: str,
    function: Values,
    worst: float,
    missing: str,
    *,
    level: Level = "shown",
    needs_de: bool = True,
) -> Metric:
    return Metric(
        f"impact/{name}",
        function,
        1.0,
        worst,
        "ranking of genes",
        needs_de=needs_de,
        negative="mean_impact",
        missing=missing,
        level=level,
    )


_NONE = "no gene is significant in truth"
_NO_CELLS = "no cells to test for differential expression"


def _at(k: int) -> tuple[Metric, Metric]:
    """Return the metrics of the k genes of highest score."""
    few = f"or no more than {k} genes to choose from"
    level: Level = "shown" if k == DEPTHS[0] else "detail"
    return (
        _row(f"precision_at_{k}", _precision(k), 0.0, f"{_NONE}, {few}", level=level),
        _row(f"overlap_at_{k}", _overlap(k), 0.0, f"{_NO_CELLS}, {few}", level="detail"),
    )


IMPACT: dict[str, Metric] = table(
    _row("auprc", _area(average_precision), 0.0, _NONE, level="headline"),
    _row("spearman", _rank_correlation(_size), -1.0, "no effect in truth", level="headline", needs_de=False),
    _row("auroc", _area(auroc), 0.0, _NONE),
    _row("spearman_t", _rank_correlation(lambda view: view.de_score), -1.0, _NO_CELLS),
    *(row for k in DEPTHS for row in _at(k)),
)
