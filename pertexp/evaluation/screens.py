"""The honest score of a screen model: the same test units for the model, every baseline, and the replicate."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import group_sums, halves, profiles, unit_groups, welch_t
from pertexp.evaluation.frame import EvaluationFrame
from pertexp.evaluation.scoring import Scores, score, verdict
from pertexp.evaluation.table import render
from pertexp.models.baselines import Baseline, Predictor, TrainMean


@dataclass(frozen=True)
class Report:
    """What a run has to say: the frame that was scored, the scores, and the verdict in words."""

    model: str
    frame: EvaluationFrame
    scores: Scores
    verdict: list[str]
    primary: str

    @property
    def value(self) -> float:
        """Mean of the model on the primary metric."""
        return float(self.scores.summary(self.model, self.primary)["mean"])

    def means(self) -> dict[str, float]:
        """The model's mean on every metric that applies."""
        own = self.scores.aggregate[self.scores.aggregate["model"] == self.model].dropna(subset=["mean"])
        return dict(zip(own["metric"], own["mean"].astype(float), strict=True))

    def write(self, folder: Path) -> None:
        """Write metrics.parquet, metrics.json and predictions.h5ad, each whole or not at all; metrics.json last."""
        partial = folder / ".predictions.h5ad.partial"
        self.frame.to_anndata(self.model).write_h5ad(partial)
        partial.replace(folder / "predictions.h5ad")
        self.scores.write(folder)

    def show(self, console: Console, title: str) -> None:
        """Print the table and the verdict."""
        console.print(render(self.scores, title))
        for line in self.verdict:
            console.print(line, highlight=False)


@dataclass(frozen=True)
class ScreenEvaluation:
    """Scores on held-out perturbations.

    Attributes
    ----------
    baselines
        By name; fitted here, on training profiles.
    primary
        The metric that orders tables.
    n_resamples, seed
        Of the bootstrap; the seed also draws the halves of the replicate.
    """

    baselines: dict[str, Baseline] = field(default_factory=dict)
    primary: str = "pearson_delta"
    n_resamples: int = 2000
    seed: int = 0

    def __call__(self, data: ScreenData, model: Predictor, name: str) -> Report:
        """Predict the test units with the model and every baseline, and score them."""
        design = data.design
        units = design.units("test")
        predictions = {name: model.predict(units)}
        for baseline_name, baseline in self.baselines.items():
            predictions[baseline_name] = baseline.fit(design.training).predict(units)
        frame = evaluation_frame(design, predictions, self.seed)
        scores = score(frame, self.n_resamples, self.seed)
        return Report(name, frame, scores, verdict(scores, name, self.primary), self.primary)


def evaluation_frame(design: Design, predictions: dict[str, np.ndarray], seed: int) -> EvaluationFrame:
    """Predictions beside the truth of the test units; real controls on both sides."""
    screen, units = design.screen, design.units("test")
    sums = group_sums(screen, design.size_factor, unit_groups(screen, units), len(units))
    return EvaluationFrame(
        perturbation=tuple(screen.perturbations[p] for p in units.perturbation),
        context=tuple(screen.contexts[c] for c in units.context),
        fold=np.full(len(units), design.split.fold),
        genes=tuple(screen.genes.tolist()),
        scale=design.profile_scale,
        truth=profiles(screen, sums),
        control=design.training.control[units.context],
        train_mean=TrainMean().fit(design.training).predict(units),
        de_score=welch_t(screen, design.size_factor, units),
        predictions=predictions,
        seen=design.seen_members(),
        replicate=halves(screen, design.size_factor, units, seed),
    )
