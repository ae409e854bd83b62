"""Score a model of pairs: the same test pairs for the model, the model with masked inputs, and every baseline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd

from pertexp.config.errors import MismatchError, RequestError, nearest
from pertexp.data.pairs.datamodule import PairData
from pertexp.evaluation.comparison import verdict
from pertexp.evaluation.contract import require_metrics
from pertexp.evaluation.pairs.criteria import criteria_of
from pertexp.evaluation.pairs.generalisation import Predicted, over_draws, over_roles
from pertexp.evaluation.pairs.masking import masked_batches
from pertexp.evaluation.pairs.predictions import predicted, tabled
from pertexp.evaluation.pairs.scored_run import TASK, ScoredPairRun
from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.evaluation.roles import RowRoles
from pertexp.metrics.output import OutputName
from pertexp.metrics.pairs import PAIRS, best_threshold
from pertexp.models.baselines.pairs import why_not_counted
from pertexp.models.protocols import Diagnosed, HasTargets, PairBaseline, PairPredictor
from pertexp.runs.schema import Diagnostic, Generalisation, PairMetrics, RoleScore


@dataclass(frozen=True)
class PairEvaluation:
    """Scores on pairs of lines, or chromosomes, that were never seen.

    Attributes
    ----------
    baselines
        By name; fitted here, on training pairs.
    primary
        The metric that orders tables.
    n_resamples, seed
        Of the bootstrap; the seed also draws the training pairs of the generalisation gap.
    n_draws
        Choices of the support sets over which the spread of the score is told.
    n_train
        Training pairs, at most, on which the gap is told.
    """

    task: ClassVar[str] = TASK
    scores_output: ClassVar[OutputName] = "probability"

    baselines: dict[str, PairBaseline] = field(default_factory=dict)
    primary: str = "auprc"
    n_resamples: int = 2000
    seed: int = 0
    n_draws: int = 5
    n_train: int = 5000

    def __post_init__(self) -> None:
        require_metrics(PAIRS.values(), self.scores_output)
        if self.primary not in PAIRS:
            raise RequestError(
                f"evaluation.primary={self.primary} is no metric of this evaluation; {nearest(self.primary, PAIRS)}"
            )
        for name in ("n_resamples", "n_draws", "n_train"):
            if getattr(self, name) < 1:
                raise RequestError(f"evaluation.{name}={getattr(self, name)}: expected at least 1.")
        for name, baseline in self.baselines.items():
            if not hasattr(baseline, "fit"):
                where = f"evaluation.baselines.{name}"
                raise RequestError(f"{where}={baseline} is no baseline: leave it out with ~{where}")

    def require(self, data: PairData) -> None:
        """Refuse, before anything is trained, support sets that leave nothing to score."""
        for role in ("train", *_held_out(data)):
            data.design.scored(role)

    def require_model(self, data: PairData, model: object, name: str) -> None:  # noqa: ARG002
        """Refuse (MismatchError) a model that predicts nothing."""
        _predictor(model, name)

    def __call__(self, data: PairData, model: object, name: str) -> ScoredPairRun:
        """Predict the test pairs with the model, itself masked, and every baseline, and score them."""
        model = _predictor(model, name)
        scored = {role: predicted(model, data.loader(role), name) for role in _held_out(data)}
        threshold = _threshold(data, scored.get("val"))
        tables, thresholds = self._tables(data, model, name, scored["test"], threshold)
        roles = self._roles(data, name, [table["model"].iloc[0] for table in tables])
        scores = PairScores(pd.concat(tables, ignore_index=True), self.primary, self.n_resamples, self.seed)
        gap = over_roles(model, data, scored, name, self.n_train, self.seed)
        diagnostics = dict(model.diagnostics(data)) if isinstance(model, Diagnosed) else {}
        targets = model.targets if isinstance(model, HasTargets) else ()
        metrics = PairMetrics(
            task=TASK,
            predicts=self.scores_output,
            model=name,
            primary=self.primary,
            scale="probability",
            roles=roles.by_name,
            not_counted=dict(roles.not_counted),
            verdict=verdict(scores, roles),
            notes=[*data.design.notes, *_describing(data), *_distances_lacking(data)],
            thresholds=thresholds,
            generalisation=gap,
            support_draws=over_draws(model, data, scored["test"], name, self.n_draws),
            diagnostics=diagnostics,
            success_criteria=criteria_of(targets, {**_quantities(scores, name, gap), **diagnostics}),
            **scores.tables(),
        )
        return ScoredPairRun(metrics=metrics, scores=scores, roles=roles)

    def _tables(
        self, data: PairData, model: PairPredictor, name: str, test: Predicted, threshold: float | None
    ) -> tuple[list[pd.DataFrame], dict[str, float | None]]:
        """Return the table of every row, and the threshold of each: a masked model keeps that of the whole."""
        tables = [tabled(data.design, test[0], name, test[1], threshold)]
        thresholds = {name: threshold}
        for mask, batches in masked_batches(data):
            row = f"{name} ({mask})"
            tables.append(tabled(data.design, *_named(row, predicted(model, batches, row)), threshold))
            thresholds[row] = threshold
        for row, baseline in self.baselines.items():
            fitted = baseline.fit(data.design)
            thresholds[row] = _threshold(data, _of_baseline(data, fitted, "val") if data.has_validation else None)
            tables.append(tabled(data.design, *_named(row, _of_baseline(data, fitted, "test")), thresholds[row]))
        return tables, thresholds

    def _roles(self, data: PairData, name: str, rows: list[str]) -> RowRoles:
        why = {row: why_not_counted(baseline, data.design) for row, baseline in self.baselines.items()}
        return RowRoles(
            name,
            tuple(row for row in rows if row != name and row not in self.baselines),
            tuple(row for row, reason in why.items() if reason is None),
            {row: reason for row, reason in why.items() if reason is not None},
        )


def _held_out(data: PairData) -> tuple[str, ...]:
    return ("val", "test") if data.has_validation else ("test",)


def _named(name: str, found: Predicted) -> tuple[np.ndarray, str, np.ndarray]:
    return found[0], name, found[1]


def _of_baseline(data: PairData, fitted: PairBaseline, role: str) -> Predicted:
    rows = data.design.scored(role)
    return rows, np.asarray(fitted.predict(data.design, rows), dtype=np.float64)


def _describing(data: PairData) -> list[str]:
    design = data.design
    left, found = len(design.index("test")) - len(design.scored("test")), len(design.index("test"))
    said = f"{left} of {found} test pairs describe their cell line, their labels unseen, and are not scored"
    return [said] if left else []


def _distances_lacking(data: PairData) -> list[str]:
    distance = data.design.pairs.distance[data.design.scored("test")]
    lacking = int(np.isnan(distance).sum())
    return [f"{lacking} of {distance.size} scored pairs have no known distance"] if lacking else []


def _threshold(data: PairData, val: Predicted | None) -> float | None:
    """Chosen on validation pairs alone; None without them."""
    return None if val is None else best_threshold(val[1], data.design.pairs.label[val[0]])


def _quantities(scores: PairScores, name: str, gap: Generalisation) -> Mapping[str, Diagnostic]:
    """Return what a criterion can name in addition to the diagnostics of a model."""
    own = {metric: scores.summary(name, metric) for metric in PAIRS}
    prevalence = float(own["auprc"]["prevalence"])
    chance = {"auprc": prevalence, "auroc": 0.5, "precision": prevalence}
    found = {f"test/{metric}": Diagnostic(float(row["mean"]), chance.get(metric)) for metric, row in own.items()}
    of_role: dict[str, RoleScore | None] = {"train": gap.train, "val": gap.val}
    found |= {
        f"{role}/auprc": Diagnostic(one.auprc, one.prevalence) for role, one in of_role.items() if one is not None
    }
    return {**found, "gap": Diagnostic(gap.gap, gap.chance, "auprc on training minus test pairs")}


def _predictor(model: object, name: str) -> PairPredictor:
    """Return the model; MismatchError where it predicts nothing."""
    if not isinstance(model, PairPredictor):
        raise MismatchError(f"{name} predicts no pairs (it has no `predict`): type a model of pairs.")
    return model
