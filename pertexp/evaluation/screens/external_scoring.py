"""Another tool's predictions, scored like a model's: the same units, baselines, replicate and metrics."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pertexp.config.errors import DataError
from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.design import Design, build_folds
from pertexp.data.screens.reading import H5adFile
from pertexp.data.screens.screen import CONTROL, Screen
from pertexp.data.screens.splits import NamedTest, controls_of
from pertexp.evaluation.screens.cells import TestedCells
from pertexp.evaluation.screens.evaluation import ScoredScreenRun, ScreenEvaluation
from pertexp.evaluation.screens.external import (
    ExternalPrediction,
    PredictionScale,
    known_perturbations,
    read_external,
)
from pertexp.evaluation.screens.frame import EvaluationFrame, concatenate
from pertexp.evaluation.screens.measuring import measure, pooled
from pertexp.evaluation.screens.scoring import Scores
from pertexp.metrics.output import OutputName

log = logging.getLogger(__name__)

FEWEST_TO_TRAIN_ON = 2
UNKNOWN_CONTROLS = (
    "{}: it may have been fitted on control cells that are held out here, so that its scores against them may hold the "
    "noise of shared controls"
)


def score_external(
    data: ScreenData,
    evaluation: ScreenEvaluation,
    *,
    path: str,
    scale: PredictionScale | None,
    name: str | None,
    depth: float | None,
    shared: bool,
    by_split: bool,
    choices: Mapping[OutputName, str] | None = None,
) -> tuple[ScoredScreenRun, Design]:
    """Score a file of predictions; returns the scored run, and the design of its (first) fold.

    What the file predicts is the test set, and the baselines are fitted on the other perturbations of the truth. Where
    the file leaves none, or with `by_split`, they are fitted in folds of `data.split`, and the test units of all folds
    are pooled. `depth` is that of log1p predictions which were normalised to another depth than the truth; `choices`
    is what to type to score each of what files predict.

    Raises
    ------
    DataError, MismatchError
        Where predictions and truth do not fit together.
    """
    screen = data.read()
    external = read_external(
        path,
        _as_scored(screen, data),
        _columns(data),
        scale,
        name,
        shared=shared,
        wanted=evaluation.scores_output,
        choices=choices,
    )
    external = replace(external, depth=depth)
    screen = screen.take_genes(np.flatnonzero(np.isin(screen.genes, external.screen.genes)))
    tested = known_perturbations(external, screen)
    scored = [
        one for design in _designs(screen, data, tested, by_split) for one in _on_fold(design, external, evaluation)
    ]
    if not scored:
        raise DataError(f"no test unit of the truth is predicted in {Path(path).name}: compare contexts and names.")
    parts = [measure(one.frame, one.cells, evaluation.families) for one in scored]
    scores = Scores.of(pooled(parts), evaluation.primary, evaluation.n_resamples, evaluation.seed)
    frame = concatenate([one.frame for one in scored])
    notes = [*evaluation.notes, UNKNOWN_CONTROLS.format(external.name)]
    return ScoredScreenRun.of(external.name, frame, scores, notes), scored[0].design


class _OnFold(NamedTuple):
    """The predictions and truth of one fold."""

    design: Design
    frame: EvaluationFrame
    cells: TestedCells


def _as_scored(screen: Screen, data: ScreenData) -> Screen:
    """Return the truth under the scale that it is scored on."""
    return replace(screen, scale="log1p") if data.normalize and screen.scale == "counts" else screen


def _columns(data: ScreenData) -> dict[str, Any]:
    """Return which columns mean what: those of the truth, where it comes from a file."""
    if not isinstance(data, H5adFile):
        return {"perturbation_key": "perturbation", "control": CONTROL, "context_key": None}
    kept = {field.name for field in fields(H5adFile)} - {"path", "scale", "layer", "expected"}
    return {name: getattr(data, name) for name in kept}


def _designs(screen: Screen, data: ScreenData, tested: tuple[str, ...], by_split: bool) -> Iterator[Design]:
    others = set(screen.perturbations) - set(tested) - {CONTROL}
    if not by_split and len(others) >= FEWEST_TO_TRAIN_ON:
        data.split = NamedTest(tested, controls=controls_of(data.split))
    elif not by_split:
        log.warning(
            "every perturbation of the truth is predicted, so the baselines are fitted in folds of data.split: "
            "what the predictions were trained on is not known here."
        )
    return build_folds(screen, data)


def _on_fold(design: Design, external: ExternalPrediction, evaluation: ScreenEvaluation) -> list[_OnFold]:
    """Return those test units of a fold that are predicted; an empty list where none is."""
    evaluation.require_scale(design)
    on = external.on(design)
    covered = on.covered()
    if not covered.any():
        return []
    if not covered.all():
        log.warning("%d of %d test units are not predicted and are left out.", (~covered).sum(), covered.size)
        design = design.testing(covered)
        on = external.on(design)
    on.require_depth()
    given, cells = on.cells(), TestedCells.of(design, evaluation.seed)
    frame = evaluation.frame(design, {external.name: on.predictions()})
    return [_OnFold(design, frame, cells if given is None else replace(cells, given={external.name: given}))]
