"""Screen metrics under the `core` rules: one function and one row of `CORE` each.

The rules: real control on both sides, and not the same cells: predicted effects are against the control cells that
models are fitted on, true effects against held-out ones, so that the noise of a control mean is not predicted for free;
signed effects; all target genes of the panel left out of discrimination; ties are mid-ranks; divisor P - 1; fewer than
3 candidates is not applicable (NaN); an undefined value is the worst one.

Every effect metric has variants, computed by the same function from another view of the same prediction:
`..._shared_control` with all control cells on both sides, and one with the perturbed genes counted (`..._with_targets`)
or left out (`..._without_targets`), whichever the metric itself does not do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.spatial.distance import cdist

from pertexp.metrics.differential import SIGNIFICANT
from pertexp.metrics.metric import Level, Metric, table
from pertexp.metrics.ranking import average_precision, top_weights

MIN_CANDIDATES = 3
TOP_GENES = 20
# Differences this small, relative to the numbers they come from, are rounding: no effect, or a tie.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Scored:
    """One prediction and the truth: the input of every metric; U units = (perturbation, context), G genes.

    Attributes
    ----------
    prediction, truth, train_mean
        `[U, G]` profiles on one scale.
    control
        `[U, G]` profiles of the fitted control cells: the reference of predicted effects.
    held_out_control
        `[U, G]` of the held-out control cells: the reference of true effects; NaN rows where none are held out.
    shared_control
        `[U, G]` of all control cells.
    de_score
        `[U, G]` |t| of truth against held-out control cells; NaN rows where there are no cells to test on.
    de_fdr
        `[U, G]` adjusted p-values of truth against held-out control cells (Wilcoxon); NaN rows as above.
    shared_de_score, shared_de_fdr
        The same against all control cells.
    rest_score
        `[U, G]` |t| of truth against the cells of all other perturbations of the context; NaN rows as above.
    context, fold
        `[U]` integer codes; units that share both are one another's candidates in discrimination.
    own_target
        `[U, G]` the gene is a member of the unit's perturbation.
    panel_target
        `[G]` the gene is a member of any unit's perturbation.
    counted
        `[U, G]` the gene enters correlations over all genes.
    """

    prediction: np.ndarray
    truth: np.ndarray
    control: np.ndarray
    held_out_control: np.ndarray
    shared_control: np.ndarray
    train_mean: np.ndarray
    de_score: np.ndarray
    de_fdr: np.ndarray
    shared_de_score: np.ndarray
    shared_de_fdr: np.ndarray
    rest_score: np.ndarray
    context: np.ndarray
    fold: np.ndarray
    own_target: np.ndarray
    panel_target: np.ndarray
    counted: np.ndarray

    @cached_property
    def with_shared_control(self) -> "Scored":
        """The same, with all control cells as the reference of both sides; a prediction without effect has none."""
        unchanged = _peak(self.prediction - self.control) <= _noise(self.prediction, self.control)
        return replace(
            self,
            prediction=np.where(unchanged, self.shared_control, self.prediction),
            control=self.shared_control,
            held_out_control=self.shared_control,
            de_score=self.shared_de_score,
            de_fdr=self.shared_de_fdr,
        )

    @cached_property
    def with_targets(self) -> "Scored":
        """The same, with perturbed genes counted like all others."""
        none = np.zeros_like(self.own_target)
        return replace(self, own_target=none, panel_target=np.zeros_like(self.panel_target))

    @cached_property
    def without_targets(self) -> "Scored":
        """The same, with the perturbed genes of each unit left out of correlations over all genes."""
        return replace(self, counted=self.counted & ~self.own_target)

    @cached_property
    def has_reference(self) -> np.ndarray:
        """`[U]` whether there are control cells that the true effect can be against."""
        known: np.ndarray = np.isfinite(self.held_out_control).all(axis=1)
        return known

    @cached_property
    def true_effect(self) -> np.ndarray:
        """`[U, G]` truth minus held-out control; 0 where there is none."""
        known = np.where(self.has_reference[:, None], self.held_out_control, self.truth)
        return effect_of(self.truth, known)

    @cached_property
    def predicted_effect(self) -> np.ndarray:
        """`[U, G]` prediction minus fitted control."""
        return effect_of(self.prediction, self.control)

    @cached_property
    def pools(self) -> tuple[np.ndarray, ...]:
        """Rows of each candidate set: the units of one fold in one context.

        Candidates of other folds are left out: their predictions come from models fitted on this fold's
        truth, and a mere training mean would fall far below 0.5.
        """
        pairs = np.stack([self.fold, self.context], axis=1)
        _, pool = np.unique(pairs, axis=0, return_inverse=True)
        pool = pool.reshape(-1)
        return tuple(np.flatnonzero(pool == code) for code in range(pool.max(initial=-1) + 1))

    @cached_property
    def l2(self) -> tuple[np.ndarray, ...]:
        """Per pool `[P, P]`: Euclidean distance of predicted (rows) to true (columns) effects."""
        predicted, true = self._effects()
        return tuple(cdist(predicted[rows], true[rows]) for rows in self.pools)

    @cached_property
    def cosine(self) -> tuple[np.ndarray, ...]:
        """Per pool `[P, P]`: chord √(2d) of the cosine distance d, which orders as d; zero norm has d = 1."""
        predicted, true = (_unit_rows(effect) for effect in self._effects())
        return tuple(_chords(predicted[rows], true[rows]) for rows in self.pools)

    @cached_property
    def magnitude(self) -> np.ndarray:
        """`[U, G]` size of the predicted effect against control."""
        magnitude: np.ndarray = np.abs(self.predicted_effect)
        return magnitude

    @cached_property
    def significant(self) -> np.ndarray:
        """`[U, G]` genes that differ from control in truth at FDR 0.05, own targets left out."""
        significant: np.ndarray = (self.de_fdr < SIGNIFICANT) & ~self.own_target
        return significant

    def _effects(self) -> tuple[np.ndarray, np.ndarray]:
        """Return predicted and true effects on the genes that no perturbation of the panel targets."""
        keep = ~self.panel_target
        held_out = np.where(self.has_reference[:, None], self.held_out_control, self.truth)
        return (
            effect_of(self.prediction[:, keep], self.control[:, keep]),
            effect_of(self.truth[:, keep], held_out[:, keep]),
        )


def _noise(profile: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return `[U, 1]` size of what rounding leaves of profile - reference."""
    noise: np.ndarray = ROUNDING * np.maximum(_peak(profile), _peak(reference))
    return noise


def _peak(values: np.ndarray) -> np.ndarray:
    """Return `[U, 1]` largest magnitude of each row."""
    peak: np.ndarray = np.abs(values).max(axis=1, initial=0.0, keepdims=True)
    return peak


def effect_of(profile: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Signed effect `[U, G]`; a row that is rounding alone becomes zero."""
    effect = profile - reference
    return np.where(_peak(effect) > _noise(profile, reference), effect, 0.0)


def _unit_rows(effect: np.ndarray) -> np.ndarray:
    """Return rows brought to norm 1; zero rows stay zero."""
    peak = _peak(effect)
    scaled = effect / np.where(peak > 0, peak, 1.0)
    norm = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(norm > 0, norm, 1.0)


def _chords(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Euclidean distances between unit rows; √2, the chord of cosine distance 1, where either row is zero."""
    undirected = (_peak(predicted) == 0) | (_peak(true) == 0).T
    return np.where(undirected, np.sqrt(2.0), cdist(predicted, true))


def _mid_rank_score(distances: np.ndarray) -> np.ndarray:
    """1 - (closer + tied / 2) / (P - 1) for the diagonal of each row of `[P, P]`."""
    own = np.diagonal(distances)[:, None]
    margin = ROUNDING * distances.max(axis=1, keepdims=True)
    closer = (distances < own - margin).sum(axis=1)
    tied = (np.abs(distances - own) <= margin).sum(axis=1) - 1
    score: np.ndarray = 1.0 - (closer + tied / 2.0) / (len(distances) - 1)
    return score


def _discrimination(view: Scored, distances: tuple[np.ndarray, ...], transpose: bool = False) -> np.ndarray:
    """Mid-rank score of every unit within its pool; NaN in pools of fewer than 3 candidates, or without reference."""
    values = np.full(len(view.truth), np.nan)
    for rows, matrix in zip(view.pools, distances, strict=True):
        if len(rows) >= MIN_CANDIDATES:
            values[rows] = _mid_rank_score(matrix.T if transpose else matrix)
    return np.where(view.has_reference, values, np.nan)


def _standardised(profile: np.ndarray, reference: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Effect `[U, G]` with weighted mean 0 and weighted norm 1; zero rows where it does not vary."""
    effect = profile - reference
    total = weights.sum(axis=1, keepdims=True)
    mean = (weights * effect).sum(axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
    centred = np.where(weights > 0, effect - mean, 0.0)
    peak = _peak(centred)
    varies = peak > _noise(profile, reference)
    scaled = np.where(varies, centred, 0.0) / np.where(varies, peak, 1.0)
    norm = np.sqrt((weights * scaled**2).sum(axis=1, keepdims=True))
    return scaled / np.where(norm > 0, norm, 1.0)


def _pearson(view: Scored, of_prediction: np.ndarray, of_truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted Pearson correlation of predicted and true effects, each against a reference, `[U]`.

    -1 where either does not vary; NaN where the truth has no reference.
    """
    known = np.isfinite(of_truth).all(axis=1)
    predicted = _standardised(view.prediction, of_prediction, weights)
    true = _standardised(view.truth, np.where(known[:, None], of_truth, view.truth), weights)
    defined = predicted.any(axis=1) & true.any(axis=1)
    correlation = np.clip((weights * predicted * true).sum(axis=1), -1.0, 1.0)
    return np.where(known, np.where(defined, correlation, -1.0), np.nan)


def mse(view: Scored) -> np.ndarray:
    """Return the mean over genes of squared profile errors, own targets included."""
    error: np.ndarray = np.mean((view.prediction - view.truth) ** 2, axis=1)
    return error


def mae(view: Scored) -> np.ndarray:
    """Return the mean over genes of absolute profile errors, own targets included."""
    error: np.ndarray = np.mean(np.abs(view.prediction - view.truth), axis=1)
    return error


def pearson_delta(view: Scored) -> np.ndarray:
    """Return the Pearson correlation over all genes of predicted effects and true ones, each against real controls."""
    return _pearson(view, view.control, view.held_out_control, view.counted.astype(np.float64))


def pearson_delta_mean(view: Scored) -> np.ndarray:
    """Return the Pearson correlation of effects against the mean of the training perturbations (Systema)."""
    return _pearson(view, view.train_mean, view.train_mean, view.counted.astype(np.float64))


def pearson_delta_top20(view: Scored) -> np.ndarray:
    """`pearson_delta` on the 20 genes of highest |t|, own targets left out; NaN where nothing was tested."""
    tested = ~np.isnan(view.de_score).any(axis=1)
    weights = top_weights(view.de_score, ~view.own_target & tested[:, None], TOP_GENES)
    return np.where(tested, _pearson(view, view.control, view.held_out_control, weights), np.nan)


def discrimination_l2(view: Scored) -> np.ndarray:
    """Rank of the own truth among all truths by Euclidean distance to the predicted effect."""
    return _discrimination(view, view.l2)


def discrimination_cosine(view: Scored) -> np.ndarray:
    """Rank of the own truth among all truths by cosine distance to the predicted effect."""
    return _discrimination(view, view.cosine)


def discrimination_l2_t(view: Scored) -> np.ndarray:
    """Rank of the own prediction among all predictions by Euclidean distance to the true effect."""
    return _discrimination(view, view.l2, transpose=True)


def discrimination_cosine_t(view: Scored) -> np.ndarray:
    """Rank of the own prediction among all predictions by cosine distance to the true effect."""
    return _discrimination(view, view.cosine, transpose=True)


def mse_top20(view: Scored) -> np.ndarray:
    """Average the squared error on the 20 genes of highest |t|, without own targets; NaN where none was tested.

    |t| is against all control cells: it only says which genes, and the error is none of an effect.
    """
    tested = ~np.isnan(view.shared_de_score).any(axis=1)
    weights = top_weights(view.shared_de_score, ~view.own_target & tested[:, None], TOP_GENES)
    error = (weights * (view.prediction - view.truth) ** 2).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-300)
    return np.where(tested, error, np.nan)


def wmse(view: Scored) -> np.ndarray:
    """Weigh the squared profile error by how much a gene sets the perturbation apart (Mejia et al. 2025, Miller 2025).

    Weights are squares of the min-max scaled |t| against the cells of all other perturbations, scaled to sum 1; uniform
    where no gene stands out; NaN where there are no other cells.
    """
    tested = ~np.isnan(view.rest_score).any(axis=1)
    score = np.where(np.isfinite(view.rest_score), view.rest_score, 0.0)
    score = score - score.min(axis=1, keepdims=True)
    peak = score.max(axis=1, keepdims=True)
    weights = np.where(peak > 0, (score / np.where(peak > 0, peak, 1.0)) ** 2, 1.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.where(tested, (weights * (view.prediction - view.truth) ** 2).sum(axis=1), np.nan)


def centroid_accuracy(view: Scored) -> np.ndarray:
    """Return the share of other truths farther from the prediction than its own (Systema, Euclidean, all genes).

    A tie counts against the prediction, as there. NaN in pools of fewer than 3 candidates.
    """
    values = np.full(len(view.truth), np.nan)
    for rows in view.pools:
        if len(rows) >= MIN_CANDIDATES:
            distances = cdist(view.prediction[rows], view.truth[rows])
            own = np.diagonal(distances)[:, None]
            margin = ROUNDING * distances.max(axis=1, keepdims=True)
            values[rows] = (distances > own + margin).sum(axis=1) / (len(rows) - 1)
    return values


def de_overlap(view: Scored) -> np.ndarray:
    """Return the share of the n truly significant genes, without own targets, among the n of largest predicted effect.

    Genes tied at the cut share the places left, so that a prediction without effect scores what chance gives. NaN
    where no gene is significant.
    """
    n = view.significant.sum(axis=1)
    weights = top_weights(view.magnitude, ~view.own_target, np.maximum(n, 1))
    return np.where(n > 0, (weights * view.significant).sum(axis=1) / np.maximum(n, 1), np.nan)


def de_direction(view: Scored) -> np.ndarray:
    """Return the share of the truly significant genes whose predicted effect has the true sign; no effect counts half.

    NaN where no gene is significant.
    """
    predicted, true = np.sign(view.predicted_effect), np.sign(view.true_effect)
    n = view.significant.sum(axis=1)
    agreement = (predicted * true + 1) / 2
    return np.where(n > 0, (agreement * view.significant).sum(axis=1) / np.maximum(n, 1), np.nan)


def de_auprc(view: Scored) -> np.ndarray:
    """Return the average precision of predicted effect sizes for the truly significant genes; own targets left out.

    Tied genes enter together, so that a prediction without effect scores the prevalence. NaN where no gene, or every
    gene, is significant.
    """
    rows = zip(view.magnitude, view.significant, ~view.own_target, strict=True)
    return np.array([average_precision(score[use], label[use]) for score, label, use in rows])


_CONTROL, _MEAN = "effect against control", "effect against training mean"
_NO_REFERENCE = "no control cells held out, as a context has fewer than 20"
_UNTESTED = "no cells to test for differential expression"
_NO_CELLS = f"{_UNTESTED}, or {_NO_REFERENCE}"
_NO_GENES = f"no gene is significant in truth, or {_NO_REFERENCE}"
_FEW = f"fewer than {MIN_CANDIDATES} candidates in one fold and context"
_NO_RANK = f"{_FEW}, or {_NO_REFERENCE}"
_AGAINST_CONTROL = (
    Metric("pearson_delta", pearson_delta, 1.0, -1.0, _CONTROL, missing=_NO_REFERENCE, level="headline"),
    Metric("pearson_delta_top20", pearson_delta_top20, 1.0, -1.0, _CONTROL, needs_de=True, missing=_NO_CELLS),
    Metric("discrimination_cosine", discrimination_cosine, 1.0, 0.0, _CONTROL, missing=_NO_RANK, level="headline"),
    Metric("discrimination_cosine_t", discrimination_cosine_t, 1.0, 0.0, _CONTROL, missing=_NO_RANK, level="detail"),
    Metric("de_overlap", de_overlap, 1.0, 0.0, _CONTROL, needs_de=True, missing=_NO_GENES),
    Metric("de_direction", de_direction, 1.0, 0.0, _CONTROL, needs_de=True, missing=_NO_GENES),
    Metric("de_auprc", de_auprc, 1.0, 0.0, _CONTROL, needs_de=True, missing=_NO_GENES),
    Metric("discrimination_l2", discrimination_l2, 1.0, 0.0, _CONTROL, missing=_NO_RANK, level="detail"),
    Metric("discrimination_l2_t", discrimination_l2_t, 1.0, 0.0, _CONTROL, missing=_NO_RANK, level="detail"),
)
_AGAINST_MEAN = (
    Metric("pearson_delta_mean", pearson_delta_mean, 1.0, -1.0, _MEAN, negative="no_change", level="headline"),
)
_OF_PROFILES = (
    Metric("mse", mse, 0.0, np.inf, "profile", level="headline"),
    Metric("wmse", wmse, 0.0, np.inf, "profile", needs_de=True, missing="no cells of other perturbations"),
    Metric("mae", mae, 0.0, np.inf, "profile", level="detail"),
    Metric("mse_top20", mse_top20, 0.0, np.inf, "profile", needs_de=True, missing=_UNTESTED, level="detail"),
    Metric("centroid_accuracy", centroid_accuracy, 1.0, 0.0, "profile", missing=_FEW, level="detail"),
)
COUNTS_TARGETS = frozenset({"pearson_delta", "pearson_delta_mean"})  # their variant leaves them out
SHARED = "shared_control"


def _variant(row: Metric, suffix: str, of: Callable[[Scored], Scored], level: Level = "detail") -> Metric:
    """Return the same metric on another view of a prediction."""

    def variant(view: Scored) -> np.ndarray:
        return row.function(of(view))

    variant.__name__ = f"{row.name}_{suffix}"
    return replace(row, name=variant.__name__, function=variant, level=level)


def _targets(row: Metric) -> Metric:
    """Return the variant that counts perturbed genes, or that leaves them out, whichever the metric does not."""
    if row.name in COUNTS_TARGETS:
        return _variant(row, "without_targets", lambda view: view.without_targets)
    return _variant(row, "with_targets", lambda view: view.with_targets)


def _shared(row: Metric) -> Metric:
    missing = row.missing.replace(f", or {_NO_REFERENCE}", "").replace(_NO_REFERENCE, "")
    level: Level = "shown" if row.name == "pearson_delta" else "detail"
    return replace(_variant(row, SHARED, lambda view: view.with_shared_control, level), missing=missing)


_ORDER = ("pearson_delta", "pearson_delta_shared_control", "pearson_delta_mean", "pearson_delta_top20", "mse", "wmse")
_ROWS = table(
    *_AGAINST_CONTROL,
    *map(_shared, _AGAINST_CONTROL),
    *_AGAINST_MEAN,
    *_OF_PROFILES,
    *map(_targets, (*_AGAINST_CONTROL, *_AGAINST_MEAN)),
)
CORE: dict[str, Metric] = {name: _ROWS[name] for name in (*_ORDER, *(name for name in _ROWS if name not in _ORDER))}
