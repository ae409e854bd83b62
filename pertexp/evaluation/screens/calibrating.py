"""Calibrate metrics on a screen: score the replicate and the negative controls, over all folds."""

from collections.abc import Callable, Iterable

from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.design import Design, build_folds
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.evaluation.screens.measuring import pooled
from pertexp.evaluation.screens.scoring import Scores


def calibration_scores(
    data: ScreenData, evaluation: ScreenEvaluation, track: Callable[[Iterable[Design]], Iterable[Design]]
) -> Scores:
    """Score the negative controls and the replicate on every fold of the split, and pool them.

    `track` wraps the folds, to show progress.
    """
    measured = [evaluation.measure_negatives(design) for design in track(build_folds(data.read(), data))]
    return Scores.of(pooled(measured), evaluation.primary, evaluation.n_resamples, evaluation.seed)
