"""The effect of perturbations on their own target genes, for baselines that know nothing of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from pertexp.data.screens.design import TrainingProfiles
from pertexp.data.screens.gene_symbols import current
from pertexp.data.screens.profiles import Units
from pertexp.data.screens.screen import JOIN, members
from pertexp.metrics.output import ProfileScale
from pertexp.models.protocols import ScreenBaseline, notes_of

SMALLEST_CONTROL = 0.01  # mean expression of controls below which a target has no ratio
LARGEST_LOSS = 100.0  # a unit without a single count of its target would have an infinite ratio


class OwnTarget:
    """A baseline whose mean effect on perturbed genes is replaced by the effect of training targets on themselves.

    τ is the mean, over training units and their measured members, of log(own expression / expression of the context's
    controls). A measured member is predicted at control × exp(τ): τ stands in place of the mean effect on that gene,
    which comes from perturbations of other genes, so that a baseline that predicts more than the mean effect keeps
    what it adds. Each measured member of a combination gets it. Expression is expm1 of a profile, that genes of low
    and high expression may share a ratio; on log fold changes, the ratio is the difference. Targets whose control mean
    is below `SMALLEST_CONTROL` have no ratio and do not enter τ, and none loses more than a factor `LARGEST_LOSS`.
    Where τ has no target, predictions are those of the baseline.

    Parameters
    ----------
    of
        The baseline.
    trained
        Whether members get τ that were trained alone as well; not those of a baseline that knows their effects.
    """

    def __init__(self, of: ScreenBaseline, trained: bool = False) -> None:
        self._of, self._trained = of, trained

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the baseline."""
        return notes_of(self._of)

    def fit(self, training: TrainingProfiles) -> Self:
        """Fit the baseline, and τ."""
        self._of.fit(training)
        self._targets = [members(name) for name in training.perturbations]
        self._column = {current(gene): column for column, gene in enumerate(training.genes.tolist())}
        names = {training.perturbations[index] for index in training.units.perturbation.tolist()}
        self._known: set[str] = set() if self._trained else names
        self._shift = _shift(training, *self._own(training.units, set()))
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` profiles of the baseline, those of perturbed genes moved."""
        profiles = self._of.predict(units).copy()
        rows, columns = self._own(units, self._known)
        profiles[rows, columns] += self._shift[units.context[rows], columns]
        return profiles

    def _own(self, units: Units, known: set[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of units and columns of genes: the measured members, but for known ones."""
        pairs = [
            (row, self._column[current(target)])
            for row, perturbation in enumerate(units.perturbation.tolist())
            for target in _unknown(self._targets[perturbation], known)
            if current(target) in self._column
        ]
        rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return rows, columns


def _unknown(targets: tuple[str, ...], known: set[str]) -> list[str]:
    """Members that were not trained alone; none of a set that was trained itself."""
    return [] if JOIN.join(targets) in known else [target for target in targets if target not in known]


def _shift(training: TrainingProfiles, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return `[C, G]` what τ says of a gene less what the mean effect says; zeros where τ has no target."""
    context = training.units.context[rows]
    ratio = _RATIOS[training.scale]
    found = ratio.of(training.values[rows, columns], training.control[context, columns])
    known = found[np.isfinite(found)]
    if not known.size:
        return np.zeros_like(training.control)
    shift: np.ndarray = ratio.applied(training.control, float(known.mean())) - training.control - training.mean_effect
    return shift


@dataclass(frozen=True)
class _Ratio:
    """Own expression over that of controls, on a scale of profiles.

    Attributes
    ----------
    of
        Log ratios of profiles to control profiles, NaN where there is none.
    applied
        Control profiles moved by a log ratio.
    """

    of: Callable[[np.ndarray, np.ndarray], np.ndarray]
    applied: Callable[[np.ndarray, float], np.ndarray]


def _log_ratio(profile: np.ndarray, control: np.ndarray) -> np.ndarray:
    mean = np.where(np.expm1(control) < SMALLEST_CONTROL, np.nan, np.expm1(control))
    ratio: np.ndarray = np.log(np.maximum(np.expm1(profile), mean / LARGEST_LOSS) / mean)
    return ratio


_OF_EXPRESSION = _Ratio(_log_ratio, lambda control, tau: np.log1p(np.expm1(control) * np.exp(tau)))
_OF_FOLD_CHANGES = _Ratio(lambda profile, control: profile - control, lambda control, tau: control + tau)
_RATIOS: dict[ProfileScale, _Ratio] = {
    "log1p_of_means": _OF_EXPRESSION,
    "mean_of_log1p": _OF_EXPRESSION,
    "mean_of_log2fc": _OF_FOLD_CHANGES,
}
