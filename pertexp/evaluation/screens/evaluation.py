"""Score a model of screens: the same test units for the model, every baseline, and the replicate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pertexp.config.errors import MismatchError, RequestError, nearest
from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import SCALE_ADVICE, Units, control_profiles, halves, unit_profiles
from pertexp.data.screens.split_table import HELD_OUT
from pertexp.evaluation.comparison import verdict
from pertexp.evaluation.contract import ScoredRun, require_metrics
from pertexp.evaluation.screens.cells import TestedCells
from pertexp.evaluation.screens.families import Core, Family
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.evaluation.screens.measuring import Measured, measure
from pertexp.evaluation.screens.scoring import TASK, Scores
from pertexp.metrics.output import SCALE_WORDS, OutputName, Profile
from pertexp.metrics.registry import register
from pertexp.models.baselines.screens import NoChange, TrainMean
from pertexp.models.protocols import FindsTruth, ScreenBaseline, ScreenPredictor, notes_of
from pertexp.runs.record import whole, write_json
from pertexp.runs.schema import RECOVERY, ScreenMetrics


@dataclass(frozen=True, kw_only=True)
class ScoredScreenRun(ScoredRun):
    """The results of a run on a screen.

    Attributes
    ----------
    frame, scores
        What was scored, and the scores.
    recovery
        How well the truth that a simulator planted was found, by name; empty where there is none.
    """

    metrics: ScreenMetrics
    frame: EvaluationFrame
    scores: Scores
    recovery: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, model: str, frame: EvaluationFrame, scores: Scores, notes: Sequence[str] = ()) -> "ScoredScreenRun":
        """Compare the model with the baselines, and put everything on record, with these notes."""
        found = verdict(scores, scores.roles(model))
        metrics = scores.metrics_of(model, found, frame.predicts)
        return cls(metrics=replace(metrics, notes=[*metrics.notes, *notes]), frame=frame, scores=scores)

    def write_units(self, folder: Path) -> None:
        """Write predictions.h5ad, recovery.json, metrics.parquet and calibration.parquet."""
        with whole(folder / "predictions.h5ad") as partial:
            self.frame.to_anndata(self.metrics.model).write_h5ad(partial)
        if self.recovery:
            write_json(folder / RECOVERY, self.recovery)
        self.scores.write_units(folder)


@dataclass(frozen=True)
class ScreenEvaluation:
    """Scores on held-out perturbations.

    Attributes
    ----------
    families
        The metric families, by name.
    baselines
        By name; fitted here, on training profiles.
    primary
        The metric that orders tables; None: the first of the first family's headline.
    n_resamples, seed
        Of the bootstrap; the seed also draws the halves of the replicate and the cells of predictions.
    n_splits
        Random splits into halves over which the replicate is averaged.
    """

    task: ClassVar[str] = TASK
    scores_output: ClassVar[OutputName] = "profile"
    frame_type: ClassVar[type[EvaluationFrame]] = EvaluationFrame
    negatives: ClassVar[dict[str, Callable[[], ScreenBaseline]]] = {"train_mean": TrainMean, "no_change": NoChange}
    wrap: ClassVar[str] = ""  # what else to do with a baseline of something else

    families: dict[str, Family] = field(default_factory=lambda: {"core": Core()})
    baselines: dict[str, ScreenBaseline] = field(default_factory=dict)
    primary: str | None = None
    n_resamples: int = 2000
    seed: int = 0
    n_splits: int = 5

    def __post_init__(self) -> None:
        known = [metric for family in self.families.values() for metric in family.metrics]
        if not known:
            raise RequestError("evaluation names no metric family: type evaluation=core, or several, [core,vcc2026].")
        self._register()
        require_metrics(
            (row for family in self.families.values() for row in family.metrics.values()), self.scores_output
        )
        if self.primary is not None and self.primary not in known:
            raise RequestError(
                f"evaluation.primary={self.primary} is no metric of this evaluation; {nearest(self.primary, known)}"
            )
        for name in ("n_resamples", "n_splits"):
            if getattr(self, name) < 1:
                raise RequestError(f"evaluation.{name}={getattr(self, name)}: expected at least 1.")
        self._require_baselines()

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known of the rows."""
        return tuple(f"{name}: {note}" for name, baseline in self.baselines.items() for note in notes_of(baseline))

    def require(self, data: ScreenData) -> None:
        """Refuse, before anything is trained, metrics that cannot be computed on the scale of the data."""
        self.require_scale(data.design)

    def require_scale(self, design: Design) -> None:
        """MismatchError where a metric cannot be computed on profiles of this scale; they are those of the truth."""
        scale = design.scale_of_profiles
        for name, family in self.families.items():
            wrong = next((metric for metric in family.metrics.values() if scale not in metric.scales), None)
            if wrong is not None:
                needed = " or ".join(f"'{SCALE_WORDS[one]}'" for one in sorted(wrong.scales))
                raise MismatchError(
                    f"{wrong.name} cannot be computed from profiles on the scale '{SCALE_WORDS[scale]}', which the "
                    f"data have: evaluation={name} needs {needed}. Type evaluation=core, or bring the data and the "
                    f"model to the other scale: {SCALE_ADVICE[min(wrong.scales)]}."
                )

    def require_model(self, data: ScreenData, model: Any, name: str) -> None:
        """Refuse (MismatchError) a model that predicts profiles on another scale than the truth has."""
        truth = data.design.scale_of_profiles
        predicted = model.predicts.on(truth)
        if predicted != truth:
            raise MismatchError(
                f"model={name} predicts profiles on the scale '{SCALE_WORDS[predicted]}', but data={data.name} are "
                f"scored on the scale '{SCALE_WORDS[truth]}': {SCALE_ADVICE[predicted]}."
            )

    def __call__(self, data: ScreenData, model: ScreenPredictor, name: str) -> ScoredScreenRun:
        """Predict the test units with the model and every baseline, and score them."""
        design = data.design
        frame = self.frame(design, {name: model.predict(design.units("test"))})
        scored = self.scored_run(frame, TestedCells.of(design, self.seed), name)
        if isinstance(model, FindsTruth) and design.screen.truth is not None:
            scored.recovery.update(model.recovery(design))
        return scored

    def frame(self, design: Design, predictions: Mapping[str, np.ndarray]) -> EvaluationFrame:
        """Return the frame of these predictions of the test units, those of every baseline, and the truth."""
        units = design.units("test")
        baselines = {name: baseline.fit(design.training).predict(units) for name, baseline in self.baselines.items()}
        return self._frame(design, {**predictions, **baselines})

    def _frame(self, design: Design, predictions: Mapping[str, np.ndarray]) -> EvaluationFrame:
        return evaluation_frame(design, predictions, self.seed, self.n_splits, self.frame_type)

    def measure_negatives(self, design: Design) -> Measured:
        """Score the predictions that know nothing of a perturbation, and the replicate, on a fold; no model."""
        self.require_scale(design)
        units = design.units("test")
        predictions = {name: make().fit(design.training).predict(units) for name, make in self.negatives.items()}
        frame = self._frame(design, predictions)
        if frame.replicate is None:
            raise MismatchError("metrics are calibrated on halves of cells, and a test unit here has fewer than two.")
        return measure(frame, TestedCells.of(design, self.seed), self.families)

    def scores(self, frame: EvaluationFrame, cells: TestedCells) -> Scores:
        """Return every metric of every family."""
        measured = measure(frame, cells, self.families)
        return Scores.of(measured, self.primary, self.n_resamples, self.seed)

    def scored_run(self, frame: EvaluationFrame, cells: TestedCells, name: str) -> ScoredScreenRun:
        """Score a frame, and compare the model called `name` with the baselines."""
        return ScoredScreenRun.of(name, frame, self.scores(frame, cells), self.notes)

    def _register(self) -> None:
        """Make the metrics of all families known, those of other packages too."""
        for name, family in self.families.items():
            try:
                register(family.metrics.values())
            except ValueError as fault:
                raise RequestError(f"evaluation.families.{name}: {fault}") from fault

    def _require_baselines(self) -> None:
        for name, baseline in self.baselines.items():
            where = f"evaluation.baselines.{name}"
            if not hasattr(baseline, "fit"):
                raise RequestError(f"{where}={baseline} is no baseline: leave it out with ~{where}")
            predicted = getattr(baseline, "predicts", Profile("as_data")).name
            if predicted != self.scores_output:
                raise RequestError(
                    f"{where} predicts {predicted}, and this evaluation scores {self.scores_output}: leave it out with "
                    f"~{where}{self.wrap}"
                )


def _replicates(design: Design, units: Units, seed: int, n_splits: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Halves of several random splits, `[R, U, G]` each: one split alone is a draw of luck."""
    pairs = [halves(design.screen, design.size_factor, units, [seed, split]) for split in range(n_splits)]
    sides = [pair for pair in pairs if pair is not None]
    return (np.stack([a for a, _ in sides]), np.stack([b for _, b in sides])) if sides else None


def evaluation_frame(
    design: Design,
    predictions: Mapping[str, np.ndarray],
    seed: int,
    n_splits: int = 5,
    frame_type: type[EvaluationFrame] = EvaluationFrame,
) -> EvaluationFrame:
    """Return the frame of predictions and truth of the test units; real controls on both sides, not the same cells."""
    screen, units = design.screen, design.units("test")
    return frame_type(
        perturbation=tuple(screen.perturbations[p] for p in units.perturbation),
        context=tuple(screen.contexts[c] for c in units.context),
        fold=np.full(len(units), design.split.fold),
        genes=tuple(screen.genes.tolist()),
        scale=design.profile_scale,
        truth=unit_profiles(screen, design.size_factor, units),
        control=design.training.control[units.context],
        held_out_control=control_profiles(screen, design.size_factor, design.role == HELD_OUT)[units.context],
        shared_control=control_profiles(screen, design.size_factor)[units.context],
        train_mean=(design.training.control + design.training.mean_effect)[units.context],
        predictions=dict(predictions),
        seen=design.seen_members(),
        replicate=_replicates(design, units, seed, n_splits),
        **TestedCells.of(design, seed).tests(),
    )
