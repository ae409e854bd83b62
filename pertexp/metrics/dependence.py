"""Dependence between features, or between features and a class, compared with chance."""

from typing import NamedTuple

import numpy as np

from pertexp.config.errors import DataError

FOLDS = 5
# A column whose standard deviation is below this share of its root mean square is a constant with rounding errors.
ROUNDING = 1e-6


class CrossCorrelation(NamedTuple):
    """Mean squared cross-correlation, and what the same features give with their rows shuffled."""

    value: float
    permutation_mean: float
    excess: float


class Probe(NamedTuple):
    """How well a linear classifier reads a class from features; chance is the balanced accuracy of a guess, 1/K."""

    balanced_accuracy: float
    chance: float

    @property
    def excess(self) -> float:
        """Balanced accuracy above chance."""
        return self.balanced_accuracy - self.chance


def excess_cross_correlation(a: np.ndarray, b: np.ndarray, n_permutations: int = 20, seed: int = 0) -> CrossCorrelation:
    """Average the squared cross-correlations of a and b, less their mean over random pairings of the rows.

    Independent features of n samples give about 1/n, not 0, and more where n is small; the excess is 0 on average
    for them. Columns that do not vary count 0.

    Parameters
    ----------
    a, b
        `[n, dA]`, `[n, dB]`: rows are the same samples.
    n_permutations, seed
        Number of random pairings, at least 1, and their seed.
    """
    left, right = _standardised(a), _standardised(b)
    rng = np.random.default_rng(seed)
    value = _mean_square(left, right)
    chance = float(np.mean([_mean_square(left, right[rng.permutation(len(right))]) for _ in range(n_permutations)]))
    return CrossCorrelation(value, chance, value - chance)


def linear_probe(features: np.ndarray, classes: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> Probe:
    """Balanced accuracy of a multinomial logistic regression on standardised features, out of fold.

    Classes are weighted alike and every fold is scaled by its own training rows. Rows of one group (a chromosome, an
    element) are never on both sides, so that a group that is recognised is not taken for its class.

    Parameters
    ----------
    features
        `[n, d]`, finite.
    classes
        `[n]` labels; each must have two rows, or two groups where there are groups.
    groups
        `[n]` names.
    seed
        Of the folds, at most 5.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import cross_val_predict

    if not np.isfinite(features).all():
        raise DataError("The features of a linear probe hold NaN or infinite values: expected finite numbers.")
    n_classes = len(np.unique(classes))
    predicted = cross_val_predict(_classifier(), features, classes, groups=groups, cv=_folds(classes, groups, seed))
    return Probe(float(balanced_accuracy_score(classes, predicted)), 1 / n_classes)


def _classifier() -> object:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))


def _folds(classes: np.ndarray, groups: np.ndarray | None, seed: int) -> object:
    """Return folds in which every class is on the training side; refused where there cannot be any."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    units = np.arange(len(classes)) if groups is None else np.asarray(groups)
    per_class = {name: len(np.unique(units[classes == name])) for name in np.unique(classes).tolist()}
    if len(per_class) < 2:
        raise DataError(f"A linear probe needs two classes, found {len(per_class)}.")
    rarest = min(per_class, key=per_class.__getitem__)
    if per_class[rarest] < 2:
        kind = "row" if groups is None else "group"
        raise DataError(f"Class {rarest} of a linear probe lies in 1 {kind}: expected 2, one to learn and one to test.")
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    return splitter(min(FOLDS, per_class[rarest]), shuffle=True, random_state=seed)


def _standardised(x: np.ndarray) -> np.ndarray:
    """Return columns `[n, d]` with mean 0 and norm 1; columns of zeros where they do not vary."""
    x = np.asarray(x, dtype=np.float64)
    centred = x - x.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    varies = norm > ROUNDING * np.linalg.norm(x, axis=0)
    return np.where(varies, centred / np.where(varies, norm, 1.0), 0.0)


def _mean_square(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.square(left.T @ right).mean())
