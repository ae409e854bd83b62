"""Metrics of a set of pairs: probabilities and labels, with weights, so that a bootstrap sorts only once.

Every function takes a `ScoredPairs` and gives one value for each row of its weights: 1 for the set as it is, R for R
resamples. A value that the labels leave undefined is NaN, never a number.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pertexp.metrics.metric import Metric, table

BINS = 10
ONE_CLASS = "the pairs have one label alone"


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """A set of n pairs: the input of every metric.

    Attributes
    ----------
    probability
        `[n]` predicted P(y = 1).
    label
        `[n]` 0 or 1.
    called
        `[n]` whether a threshold, chosen elsewhere, calls the pair positive; None where there is no threshold.
    weight
        `[R, n]` non-negative: how often each of R resamples holds the pair; None: the set as it is.
    """

    probability: np.ndarray
    label: np.ndarray
    called: np.ndarray | None = None
    weight: np.ndarray | None = None

    @cached_property
    def weights(self) -> np.ndarray:
        """`[R, n]` float64."""
        weight = np.ones((1, len(self.label))) if self.weight is None else self.weight
        return np.asarray(weight, dtype=np.float64)

    @cached_property
    def positive(self) -> np.ndarray:
        """`[n]` float64: the label."""
        return np.asarray(self.label, dtype=np.float64)

    @cached_property
    def order(self) -> np.ndarray:
        """`[n]` pairs from the highest probability down."""
        return np.argsort(-np.asarray(self.probability, dtype=np.float64), kind="stable")

    @cached_property
    def ends(self) -> np.ndarray:
        """`[K]` place in `order` of the last pair of every distinct probability."""
        ranked = np.asarray(self.probability, dtype=np.float64)[self.order]
        return np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if ranked.size else np.empty(0, dtype=np.int64)

    @cached_property
    def steps(self) -> tuple[np.ndarray, np.ndarray]:
        """`[R, K]` weight of the pairs, and of the positives, at every distinct probability, from the top."""
        ranked = self.weights.take(self.order, axis=1)
        ones = ranked * self.positive[self.order]
        if len(self.ends) == ranked.shape[1]:  # no ties: nothing to add up
            return ranked, ones
        starts = np.append(0, self.ends[:-1] + 1)
        return np.add.reduceat(ranked, starts, axis=1), np.add.reduceat(ones, starts, axis=1)

    @cached_property
    def tally(self) -> tuple[np.ndarray, np.ndarray]:
        """`[R, K]` weight of the pairs, and of the positives, at or above every distinct probability."""
        everything, ones = self.steps
        return np.cumsum(everything, axis=1), np.cumsum(ones, axis=1)

    @cached_property
    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """`[R]` weight of the positives, and of the negatives."""
        ones = self.weights @ self.positive
        return ones, self.weights @ (1.0 - self.positive)

    @cached_property
    def one_class(self) -> np.ndarray:
        """`[R]` whether a class is missing."""
        ones, zeros = self.totals
        return (ones <= 0) | (zeros <= 0)


def auprc(view: ScoredPairs) -> np.ndarray:
    """Sum (recall_k - recall_{k-1}) · precision_k over the distinct probabilities from the top: average precision."""
    everything, ones = view.tally
    area = (view.steps[1] * _ratio(ones, everything)).sum(axis=1)
    return np.where(view.one_class, np.nan, _ratio(area, view.totals[0]))


def auroc(view: ScoredPairs) -> np.ndarray:
    """Chance that a positive stands above a negative, ties half (Mann and Whitney's U over the product of sizes)."""
    everything, ones = view.steps
    above = view.tally[1] - ones / 2.0
    positives, negatives = view.totals
    return np.where(view.one_class, np.nan, _ratio(((everything - ones) * above).sum(axis=1), positives * negatives))


def precision(view: ScoredPairs) -> np.ndarray:
    """Return the share of positives among the pairs that are called; 0 where none is."""
    called, true = _called(view)
    return _of_called(view, _ratio(true, called))


def recall(view: ScoredPairs) -> np.ndarray:
    """Return the share of the positives that are called."""
    _, true = _called(view)
    return _of_called(view, _ratio(true, view.totals[0]))


def f1(view: ScoredPairs) -> np.ndarray:
    """2 · true / (called + positives): the harmonic mean of precision and recall."""
    called, true = _called(view)
    return _of_called(view, _ratio(2.0 * true, called + view.totals[0]))


def calibration_error(view: ScoredPairs) -> np.ndarray:
    """Compute the calibration error Σ_b (w_b / w) · |mean probability in b - share of positives in b|, 10 bins.

    Bins hold a tenth of the weight each, by probability. Pairs of one probability are never parted: they go to the bin
    of their middle, floor(10 · (weight below + ½ weight tied) / w).
    """
    total = view.weights.sum(axis=1)
    error = np.abs(_binned(view, np.asarray(view.probability, dtype=np.float64) - view.positive)).sum(axis=1)
    return np.where(total > 0, _ratio(error, total), np.nan)


def reliability(view: ScoredPairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the bins of `calibration_error` that hold a pair `[B]`: mean probability, share of positives, weight.

    Of the set as it is, or of the first resample.
    """
    weight = _binned(view, np.ones_like(view.positive))[0]
    held = weight > 0
    said = _binned(view, np.asarray(view.probability, dtype=np.float64))[0]
    return said[held] / weight[held], _binned(view, view.positive)[0][held] / weight[held], weight[held]


def _binned(view: ScoredPairs, values: np.ndarray) -> np.ndarray:
    """Return `[R, BINS]` weighted sum of values `[n]` in every bin of `calibration_error`."""
    weights, total = view.weights, view.weights.sum(axis=1)
    everything, _ = view.tally
    tied = view.steps[0]
    group = np.empty(len(view.positive), dtype=np.int64)
    group[view.order] = np.repeat(np.arange(len(view.ends)), np.diff(view.ends, prepend=-1))
    # Half a rounding error above the edge, so that equal weights of any size fall into equal bins.
    middle = _ratio(total[:, None] - everything + tied / 2.0, total[:, None])
    place = np.minimum((BINS * middle + 1e-9).astype(np.int64), BINS - 1).take(group, axis=1)
    flat = (place + BINS * np.arange(len(weights))[:, None]).ravel()
    summed = np.bincount(flat, weights=(weights * values).ravel(), minlength=BINS * len(weights))
    return summed.reshape(len(weights), BINS)


def curve(view: ScoredPairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the set as it is, from the top `[K]`: recall, precision, and share of the negatives that are called.

    One point for every distinct probability, at and above which pairs are called.
    """
    everything, ones = (part[0] for part in view.tally)
    positives, negatives = (part[0] for part in view.totals)
    return _ratio(ones, positives), _ratio(ones, everything), _ratio(everything - ones, negatives)


def brier(view: ScoredPairs) -> np.ndarray:
    """Return the mean squared difference of probability and label."""
    total = view.weights.sum(axis=1)
    error = view.weights @ (np.asarray(view.probability, dtype=np.float64) - view.positive) ** 2
    return np.where(total > 0, _ratio(error, total), np.nan)


def best_threshold(probability: np.ndarray, label: np.ndarray) -> float | None:
    """Find the threshold, at and above which pairs `[n]` are positive, with the best F1; the highest among ties.

    None where there are no pairs of both labels to choose on.
    """
    view = ScoredPairs(probability, label)
    if not len(label) or view.one_class[0]:
        return None
    everything, ones = view.tally
    score = 2.0 * ones[0] / (everything[0] + view.totals[0][0])
    return float(np.asarray(probability, dtype=np.float64)[view.order[view.ends[int(np.argmax(score))]]])


def _called(view: ScoredPairs) -> tuple[np.ndarray, np.ndarray]:
    """Return `[R]` weight of the pairs that are called, and of the positives among them."""
    called = np.zeros_like(view.positive) if view.called is None else np.asarray(view.called, dtype=np.float64)
    return view.weights @ called, view.weights @ (called * view.positive)


def _of_called(view: ScoredPairs, values: np.ndarray) -> np.ndarray:
    return np.where(view.one_class | (view.called is None), np.nan, values)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a / b, 0 where b is 0."""
    return a / np.where(b > 0, b, 1.0) * (b > 0)


_NO_CALL = f"{ONE_CLASS}, or there is no validation to choose a threshold on"
PAIRS = table(
    Metric("auprc", auprc, 1.0, 0.0, "ranking", missing=ONE_CLASS, level="headline", negative="prevalence"),
    Metric("auroc", auroc, 1.0, 0.0, "ranking", missing=ONE_CLASS, level="headline", negative="prevalence"),
    Metric("f1", f1, 1.0, 0.0, "calls", missing=_NO_CALL, negative="prevalence"),
    Metric("precision", precision, 1.0, 0.0, "calls", missing=_NO_CALL, negative="prevalence"),
    Metric("recall", recall, 1.0, 0.0, "calls", missing=_NO_CALL, negative="prevalence"),
    Metric("calibration_error", calibration_error, 0.0, 1.0, "probability", negative="prevalence"),
    Metric("brier", brier, 0.0, 1.0, "probability", negative="prevalence"),
)
