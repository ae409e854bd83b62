"""The metrics of cell-eval 0.8.2, with its names and conventions; values equal those of the package, which tests check.

Counts are brought to the median depth of the data set at hand, then log1p; log1p values stay as they are. Each side
has its own controls. Wilcoxon against control, adjusted over all genes within a perturbation; fold changes are those of
geometric means, without pseudo-count. Adjusted p-values and fold changes are rounded to float32, as there.

Where cell-eval reports one number for a whole data set (`pearson_edistance`, `de_spearman_sig`), each perturbation here
carries what it adds to it, so that their mean is that number. Where it leaves a perturbation out, the value is NaN.
Its clustering agreement, the best of seven partitions, and its bare counts of genes are not here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from pertexp.metrics.cells import Cells, rescaled
from pertexp.metrics.correlation import contributions, pearson, spearman
from pertexp.metrics.differential import SIGNIFICANT, benjamini_hochberg, wilcoxon
from pertexp.metrics.metric import Level, Metric, table
from pertexp.metrics.output import OF_CELLS
from pertexp.metrics.ranking import auroc, average_precision

_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class CellEvalSummary:
    """The real or the predicted cells, summed up.

    Attributes
    ----------
    mean, control
        `[U, G]` mean of log-normalised cells, `[G]` that of the side's controls.
    fdr, lfc
        `[U, G]` float32: adjusted p-values; log2 ratio of geometric means, ±inf where one of them is zero.
    e_distance
        `[U]` energy distance of the cells to the control cells.
    """

    mean: np.ndarray
    control: np.ndarray
    fdr: np.ndarray
    lfc: np.ndarray
    e_distance: np.ndarray

    @property
    def effect(self) -> np.ndarray:
        """`[U, G]` mean minus control."""
        effect: np.ndarray = self.mean - self.control
        return effect

    @property
    def significant(self) -> np.ndarray:
        """`[U, G]` adjusted p-value below 0.05."""
        return self.fdr < SIGNIFICANT

    def ranked(self, unit: int) -> np.ndarray:
        """Significant genes of a unit, largest fold change first; ties in the order of genes."""
        genes = np.flatnonzero(self.significant[unit])
        return genes[np.argsort(-np.abs(self.lfc[unit, genes]), kind="stable")]


@dataclass(frozen=True, eq=False)
class CellEvalView:
    """Summaries of truth and prediction, and the gene that a unit is named after: `own [U]` index, or -1."""

    truth: CellEvalSummary
    prediction: CellEvalSummary
    own: np.ndarray


def summarise(cells: Cells) -> CellEvalSummary:
    """Sum up one side: normalise, average, test, measure distances."""
    values = _log_normalised(cells)
    mean = cells.means(values)
    natural = np.expm1(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        lfc = np.log2(natural[:-1] / natural[-1])
    p_values = wilcoxon(cells, values)
    return CellEvalSummary(
        mean=mean[:-1],
        control=mean[-1],
        fdr=benjamini_hochberg(p_values).astype(np.float32),
        lfc=np.where(np.isnan(lfc), 0.0, lfc).astype(np.float32),
        e_distance=energy_distances(cells, values),
    )


def _log_normalised(cells: Cells) -> sp.csr_matrix:
    if cells.scale != "counts":
        return cells.expression.astype(np.float32)
    depth = np.asarray(cells.expression.sum(axis=1, dtype=np.float64)).ravel()
    with np.errstate(divide="ignore"):
        factor = np.where(depth > 0, np.median(depth[depth > 0]) / depth, 0.0)
    return rescaled(cells.expression, factor, log=True)


def energy_distances(cells: Cells, values: sp.csr_matrix) -> np.ndarray:
    """2 E|x − y| − E|x − x'| − E|y − y'| of each unit's cells x and the control cells y `[U]`, Euclidean.

    Means are over all pairs, those of a cell with itself included (V-statistic), as in cell-eval. Inner products are
    taken in float32 around the control mean, where rounding moves a distance by about 1e-7 of itself.
    """
    control = values[cells.of(-1)].toarray().astype(np.float32)
    centre = control.mean(axis=0)
    control -= centre
    within_control = _mean_distance(control, control)
    out = np.zeros(cells.n_units)
    for unit in range(cells.n_units):
        own = values[cells.of(unit)].toarray().astype(np.float32) - centre
        out[unit] = 2 * _mean_distance(own, control) - _mean_distance(own, own) - within_control
    return out


def _mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean Euclidean distance over all pairs of rows, block by block."""
    square_a, square_b = np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", b, b)
    total = 0.0
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, start + _BLOCK)
        square = a[rows] @ b.T
        square *= -2
        square += square_a[rows, None]
        square += square_b
        if a is b:
            own = np.arange(square.shape[0])
            square[own, start + own] = 0.0
        total += float(np.sqrt(np.maximum(square, 0.0, out=square), out=square).sum(dtype=np.float64))
    return total / (len(a) * len(b))


def _without_own(distances: np.ndarray, own_parts: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Take the own gene's part out of each row of `[P, P]` sums over genes."""
    return np.where(own[:, None] >= 0, distances - own_parts, distances)


def _own_columns(view: CellEvalView) -> tuple[np.ndarray, np.ndarray]:
    """Return values of the own gene: predicted effects `[P, 1]`, true effects of all candidates `[P, P]`."""
    gene = np.maximum(view.own, 0)
    rows = np.arange(gene.size)
    return view.prediction.effect[rows, gene][:, None], view.truth.effect[:, gene].T


def _l1(view: CellEvalView) -> np.ndarray:
    predicted, true = _own_columns(view)
    distances = cdist(view.prediction.effect, view.truth.effect, "cityblock")
    return _without_own(distances, np.abs(predicted - true), view.own)


def _l2(view: CellEvalView) -> np.ndarray:
    predicted, true = _own_columns(view)
    distances = cdist(view.prediction.effect, view.truth.effect, "sqeuclidean")
    distance: np.ndarray = np.sqrt(np.maximum(_without_own(distances, (predicted - true) ** 2, view.own), 0.0))
    return distance


def _cosine(view: CellEvalView) -> np.ndarray:
    predicted, true = _own_columns(view)
    a, b = view.prediction.effect, view.truth.effect
    dot = _without_own(a @ b.T, predicted * true, view.own)
    square_a = _without_own(np.square(a).sum(axis=1)[:, None], predicted**2, view.own)
    square_b = _without_own(np.broadcast_to(np.square(b).sum(axis=1), dot.shape), true**2, view.own)
    norm = np.sqrt(np.maximum(square_a, 0.0)) * np.sqrt(np.maximum(square_b, 0.0))
    return 1.0 - np.where(norm > 0, dot / np.where(norm > 0, norm, 1.0), 0.0)


def _discrimination(distances: Callable[[CellEvalView], np.ndarray]) -> Callable[[CellEvalView], np.ndarray]:
    """1 − rank / P of the own truth by distance to the prediction; ties in the order of perturbations."""

    def score(view: CellEvalView) -> np.ndarray:
        matrix = distances(view)
        own = np.diagonal(matrix)[:, None]
        before = np.tri(len(matrix), k=-1, dtype=bool)
        share: np.ndarray = 1.0 - ((matrix < own) | ((matrix == own) & before)).sum(axis=1) / len(matrix)
        return share

    return score


def _overlap(k: int | None, *, precision: bool = False) -> Callable[[CellEvalView], np.ndarray]:
    """Return the share of the first k genes that two rankings have in common; k is at most what one side holds."""

    def score(view: CellEvalView) -> np.ndarray:
        values = np.zeros(len(view.own))
        for unit in range(values.size):
            real, predicted = view.truth.ranked(unit), view.prediction.ranked(unit)
            held = predicted.size if precision else real.size
            n = held if k is None else min(k, held)
            values[unit] = np.intersect1d(real[:n], predicted[:n]).size / n if n else 0.0
        return values

    return score


def _over_significant(score: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[CellEvalView], np.ndarray]:
    """Return a score of true and predicted fold changes over the truly significant genes; NaN where there are none."""

    def over(view: CellEvalView) -> np.ndarray:
        pairs = zip(view.truth.lfc, view.prediction.lfc, view.truth.significant, strict=True)
        return np.array([score(true[use], predicted[use]) if use.any() else np.nan for true, predicted, use in pairs])

    return over


def _same_sign(true: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(np.sign(true) == np.sign(predicted)))


def _recall(view: CellEvalView) -> np.ndarray:
    """Return the share of truly significant genes that are significant in the prediction; NaN where there are none."""
    n = view.truth.significant.sum(axis=1)
    both = (view.truth.significant & view.prediction.significant).sum(axis=1)
    return np.where(n > 0, both / np.maximum(n, 1), np.nan)


def _spearman_of_counts(view: CellEvalView) -> np.ndarray:
    """Contributions to one Spearman correlation of numbers of significant genes; 1 where truth has none at all."""
    real, predicted = (side.significant.sum(axis=1).astype(float) for side in (view.truth, view.prediction))
    used = real > 0
    if not used.any():
        return np.ones(real.size)
    values = np.full(real.size, np.nan)
    values[used] = contributions(rankdata(real[used]), rankdata(predicted[used]))
    return values


def _area(of: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[CellEvalView], np.ndarray]:
    """Return an area under a curve: truly significant genes by −log10 of predicted adjusted p-values."""

    def area(view: CellEvalView) -> np.ndarray:
        scores = -np.log10(np.clip(view.prediction.fdr, np.float32(1e-10), np.float32(1.0)))
        return np.array([of(score, label) for score, label in zip(scores, view.truth.significant, strict=True)])

    return area


def _error(power: int, *, delta: bool) -> Callable[[CellEvalView], np.ndarray]:
    """Return the mean over genes of |prediction − truth|^power, of profiles or of effects."""

    def error(view: CellEvalView) -> np.ndarray:
        gap = view.prediction.mean - view.truth.mean
        if delta:
            gap = view.prediction.effect - view.truth.effect
        mean: np.ndarray = np.mean(np.abs(gap) ** power, axis=1)
        return mean

    return error


_DE = "differential expression"
_DEPTHS: tuple[tuple[str, int | None], ...] = (("N", None), ("50", 50), ("100", 100), ("200", 200), ("500", 500))
_HEADLINE = ("overlap_at_N", "discrimination_score_l1", "mae")  # the three of the challenge of 2025
_SHOWN = ("pearson_delta", "discrimination_score_cosine", "de_direction_match", "de_spearman_lfc_sig", "pr_auc")


def _row(name: str, function: Callable[[CellEvalView], np.ndarray], best: float, worst: float, space: str) -> Metric:
    de = space == _DE
    missing = "too few significant genes in truth" if de else "no variation over perturbations"
    level: Level = "headline" if name in _HEADLINE else "shown" if name in _SHOWN else "detail"
    return Metric(f"cell_eval/{name}", function, best, worst, space, needs_de=de, missing=missing, level=level)


CELL_EVAL: dict[str, Metric] = table(
    _row("mse", _error(2, delta=False), 0.0, np.inf, "profile"),
    _row("mae", _error(1, delta=False), 0.0, np.inf, "profile"),
    _row("mse_delta", _error(2, delta=True), 0.0, np.inf, "effect"),
    _row("mae_delta", _error(1, delta=True), 0.0, np.inf, "effect"),
    _row("pearson_delta", lambda view: pearson(view.prediction.effect, view.truth.effect), 1.0, -1.0, "effect"),
    *(
        _row(f"discrimination_score_{name}", _discrimination(distances), 1.0, 0.0, "effect")
        for name, distances in (("l1", _l1), ("l2", _l2), ("cosine", _cosine))
    ),
    _row(
        "pearson_edistance",
        lambda view: contributions(view.truth.e_distance, view.prediction.e_distance),
        1.0,
        -1.0,
        "cells",
    ),
    *(_row(f"overlap_at_{name}", _overlap(k), 1.0, 0.0, _DE) for name, k in _DEPTHS),
    *(_row(f"precision_at_{name}", _overlap(k, precision=True), 1.0, 0.0, _DE) for name, k in _DEPTHS),
    _row("de_spearman_sig", _spearman_of_counts, 1.0, -1.0, _DE),
    _row("de_direction_match", _over_significant(_same_sign), 1.0, 0.0, _DE),
    _row("de_spearman_lfc_sig", _over_significant(spearman), 1.0, -1.0, _DE),
    _row("de_sig_genes_recall", _recall, 1.0, 0.0, _DE),
    _row("pr_auc", _area(average_precision), 1.0, 0.0, _DE),
    _row("roc_auc", _area(auroc), 1.0, 0.0, _DE),
    scales=OF_CELLS,
)
