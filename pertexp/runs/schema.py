"""Typed schema of what a run writes: the same classes are dumped when writing and validated when reading.

In memory a missing number is NaN; in JSON it is null, which has no NaN and no infinity.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, PlainSerializer

from pertexp.metrics.metric import Level, Metric
from pertexp.metrics.output import OutputName, ProfileScale

FORMAT = 4  # of run folders; raised whenever what is written changes its meaning or its shape
METRICS_FILE = "metrics.json"
DATA = "data.json"
ENVIRONMENT = "environment.json"
FAILURE = "failure.json"
RECOVERY = "recovery.json"
CALIBRATION = "calibration.json"

_STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="null")


def _nan_for_null(value: object) -> object:
    return math.nan if value is None else value


def _null_for_nan(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


Number = Annotated[float, BeforeValidator(_nan_for_null), PlainSerializer(_null_for_nan)]
OptionalNumber = Annotated[float | None, PlainSerializer(_null_for_nan)]
Role = Literal["model", "masked", "baseline", "not counted", "truth", "replicate"]
Outcome = Literal["better", "worse", "not different", "too few units", "mostly undefined", "not applicable", "no value"]
Basis = Literal["best baseline", "masked input", "setting"]


@dataclass(frozen=True)
class Comparison:
    """One paired difference and what it shows; the sentence about it is written where it is shown.

    Attributes
    ----------
    model, reference, metric
        What is compared with what, on which metric.
    difference, low, high
        Model minus reference, and the ends of its interval.
    n
        Units that were resampled.
    outcome
        `better` or `worse` where the interval excludes zero, in the direction of the metric; `not different` where it
        does not; `too few units`, or `mostly undefined` where most resamples have no value: undecided;
        `not applicable` where the model has no value; `no value` where the reference has none.
    basis
        Why this reference: it is the best baseline, the model with part of its input masked, or another setting.
    over
        What was resampled, in words: `15 perturbations`.
    trusted
        Whether the metric passes its calibration on this data.
    remedy
        What to type to have more units.
    """

    __pydantic_config__: ClassVar = _STRICT

    model: str
    reference: str
    metric: str
    difference: Number
    low: Number
    high: Number
    n: int
    outcome: Outcome
    basis: Basis = "best baseline"
    over: str = ""
    trusted: bool = True
    remedy: str = ""


@dataclass(frozen=True)
class ScoreRow:
    """One model on one metric, over all units or over a subgroup of them.

    Attributes
    ----------
    mean, low, high
        Mean and 95 % interval.
    n, n_left_out
        Units with a value, and without one.
    best, worst
        Perfect and worst value of the metric.
    calibrated
        The mean where the negative control is 0 and the replicate 1.
    prevalence
        Share of positives, of pairs.
    n_perturbations, n_lines
        Clusters behind the mean: perturbations of screens, cell lines of pairs.
    members, seen
        Of a subgroup of combinations: genes in it, and how many of them were trained on.
    """

    __pydantic_config__: ClassVar = _STRICT

    model: str
    metric: str
    mean: Number
    low: Number
    high: Number
    n: int
    n_left_out: int = 0
    best: Number = math.nan
    worst: Number = math.nan
    calibrated: Number = math.nan
    prevalence: Number = math.nan
    n_perturbations: int | None = None
    n_lines: int | None = None
    members: int | None = None
    seen: int | None = None


@dataclass(frozen=True)
class MetricRow:
    """How to read the numbers of a metric that another package brought; as `pertexp.metrics.metric.Metric` has it.

    Attributes
    ----------
    best, worst, clamp
        NaN where infinite; which infinity follows from `higher_is_better`, and from the side of the clamp.
    """

    __pydantic_config__: ClassVar = _STRICT

    name: str
    higher_is_better: bool
    best: Number
    worst: Number
    space: str
    needs_de: bool
    negative: str
    missing: str
    level: Level
    clamp: tuple[Number, Number]
    scales: list[ProfileScale]

    @classmethod
    def of(cls, metric: Metric) -> "MetricRow":
        """Describe a metric."""
        return cls(
            metric.name,
            metric.higher_is_better,
            metric.best,
            metric.worst,
            metric.space,
            metric.needs_de,
            metric.negative,
            metric.missing,
            metric.level,
            metric.clamp,
            sorted(metric.scales),
        )

    @property
    def metric(self) -> Metric:
        """The metric, to read its numbers by: it computes none."""
        far = math.inf if self.higher_is_better else -math.inf
        return Metric(
            self.name,
            _computed_elsewhere,
            best=_or(self.best, far),
            worst=_or(self.worst, -far),
            space=self.space,
            needs_de=self.needs_de,
            negative=self.negative,
            missing=self.missing,
            level=self.level,
            clamp=(_or(self.clamp[0], -math.inf), _or(self.clamp[1], math.inf)),
            scales=frozenset(self.scales),
        )


def _or(value: float, instead: float) -> float:
    return value if math.isfinite(value) else instead


def _computed_elsewhere(view: object) -> np.ndarray:  # noqa: ARG001
    raise ValueError("this metric was computed by another package, and its numbers alone are known here.")


@dataclass(frozen=True)
class CalibrationRow:
    """How far one metric is to be trusted on this data: the ends of its calibration, DRF and BDS with intervals."""

    __pydantic_config__: ClassVar = _STRICT

    metric: str
    trusted: bool
    negative: str = ""
    zero: Number = math.nan
    one: Number = math.nan
    n: int = 0
    drf: Number = math.nan
    drf_low: Number = math.nan
    drf_high: Number = math.nan
    bds: Number = math.nan
    bds_low: Number = math.nan
    bds_high: Number = math.nan


@dataclass(frozen=True)
class GroupScore:
    """A model on a metric over the pairs of a cell line, of a line in a fold, or over all of them at once."""

    __pydantic_config__: ClassVar = _STRICT

    model: str
    metric: str
    value: Number
    n: int
    prevalence: Number
    low: Number = math.nan
    high: Number = math.nan
    n_left_out: int = 0
    cell_line: str = ""
    fold: int | None = None


@dataclass(frozen=True)
class Bootstrap:
    """How intervals were drawn."""

    __pydantic_config__: ClassVar = _STRICT

    n_resamples: int = 2000
    seed: int = 0
    level: float = 0.95
    over: str = "over perturbations"


@dataclass(frozen=True)
class RoleScore:
    """A model on the pairs of one role: the mean over cell lines of AUPRC and prevalence, and how many pairs."""

    __pydantic_config__: ClassVar = _STRICT

    auprc: Number
    prevalence: Number
    n: int


@dataclass(frozen=True)
class Generalisation:
    """AUPRC on pairs that were trained on, on validation and on test pairs; None where a role has no pair."""

    __pydantic_config__: ClassVar = _STRICT

    train: RoleScore | None = None
    val: RoleScore | None = None
    test: RoleScore | None = None

    @property
    def gap(self) -> float:
        """AUPRC on training pairs minus that on test pairs; NaN where either is missing."""
        return _difference(self.train, self.test)

    @property
    def train_minus_val(self) -> float:
        """The part of the gap from training to validation pairs."""
        return _difference(self.train, self.val)

    @property
    def val_minus_test(self) -> float:
        """The part of the gap from validation to test pairs."""
        return _difference(self.val, self.test)

    @property
    def chance(self) -> float | None:
        """The gap of a prediction at random: prevalence of training minus test pairs; None where either is missing."""
        return None if self.train is None or self.test is None else self.train.prevalence - self.test.prevalence


def _difference(one: RoleScore | None, other: RoleScore | None) -> float:
    return math.nan if one is None or other is None else one.auprc - other.auprc


@dataclass(frozen=True)
class Spread:
    """A metric over draws of the support sets."""

    __pydantic_config__: ClassVar = _STRICT

    mean: Number
    sd: Number
    min: Number
    max: Number
    values: list[Number] = field(default_factory=list)

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        """Summarise values `[D]`; no standard deviation of one."""
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        low, high = float(np.min(values)), float(np.max(values))
        return cls(float(np.mean(values)), sd, low, high, [float(value) for value in values])


@dataclass(frozen=True)
class SupportDraws:
    """The model's mean over lines with the support sets of several draws."""

    __pydantic_config__: ClassVar = _STRICT

    n_draws: int
    auprc: Spread
    auroc: Spread


@dataclass(frozen=True)
class Diagnostic:
    """A quantity that is monitored in addition to the score.

    Attributes
    ----------
    value
        What it is; NaN where it cannot be computed.
    chance
        What it would be by chance; None where that means nothing.
    note
        How it was measured, in words.
    """

    __pydantic_config__: ClassVar = _STRICT

    value: Number
    chance: OptionalNumber = None
    note: str = ""


@dataclass(frozen=True)
class SuccessCriterion:
    """A value that the design of a model expects, and whether it was reached.

    Attributes
    ----------
    quantity
        Name of the diagnostic or score that it is about.
    text
        The criterion in words.
    low, high
        Both ends belong to it; NaN where it is open.
    passed
        Whether the value lies between both ends; None where there is none.
    """

    __pydantic_config__: ClassVar = _STRICT

    quantity: str
    text: str
    passed: bool | None
    low: Number = math.nan
    high: Number = math.nan
    value: Number = math.nan
    chance: OptionalNumber = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """metrics.json: what the runs of every task write.

    Attributes
    ----------
    format
        Version of what is written.
    task, predicts
        Name of the task that wrote it, and what the scored model predicts.
    model, primary, scale
        Name of the scored model, of the metric that orders tables, and the scale of its predictions.
    roles, not_counted
        What each scored row is; why a baseline is not counted.
    bootstrap
        How intervals were drawn.
    aggregate
        A row per model and metric.
    verdict
        Comparisons of the model, the primary metric first.
    validation
        Validation metrics of the epoch that was kept, by their logged names; empty where nothing was trained.
    notes
        What is absent or peculiar, and why.
    definitions
        How to read the metrics that other packages brought.
    """

    __pydantic_config__: ClassVar = _STRICT

    format: int = FORMAT
    task: str
    predicts: OutputName
    model: str
    primary: str
    scale: str
    roles: dict[str, Role] = field(default_factory=dict)
    not_counted: dict[str, str] = field(default_factory=dict)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    aggregate: list[ScoreRow]
    verdict: list[Comparison] = field(default_factory=list)
    validation: dict[str, Number] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    definitions: list[MetricRow] = field(default_factory=list)

    @property
    def value(self) -> float:
        """Mean of the model on the primary metric; NaN where it has none."""
        return self.means.get(self.primary, math.nan)

    @property
    def means(self) -> dict[str, float]:
        """The model's mean on every metric that applies."""
        own = {row.metric: row.mean for row in self.aggregate if row.model == self.model}
        return {metric: mean for metric, mean in own.items() if not math.isnan(mean)}


@dataclass(frozen=True, kw_only=True)
class ScreenMetrics(RunMetrics):
    """metrics.json of screens, with scores by subgroup of combinations, and the calibration of every metric."""

    __pydantic_config__: ClassVar = _STRICT

    by_seen: list[ScoreRow] = field(default_factory=list)
    calibration: list[CalibrationRow] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class CalibrationMetrics:
    """calibration.json: how far metrics are to be trusted on a data set, without any model.

    Attributes
    ----------
    data, scale
        Name of the data, and the scale of its profiles.
    collapsed
        Whether the score of the replicate falls below half once its two halves do not share their control cells.
    bootstrap, aggregate, calibration, notes
        As in metrics.json.
    """

    __pydantic_config__: ClassVar = _STRICT

    format: int = FORMAT
    data: str
    collapsed: bool = False
    scale: str
    bootstrap: Bootstrap
    aggregate: list[ScoreRow]
    calibration: list[CalibrationRow]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class PairMetrics(RunMetrics):
    """metrics.json of pairs.

    Attributes
    ----------
    by_line, by_fold, pooled
        Scores by cell line, by line and fold, and over all pairs at once.
    thresholds
        By row, the probability at and above which a pair is called positive; None without validation pairs.
    generalisation, support_draws
        From training to test pairs; over draws of the support sets.
    diagnostics, success_criteria
        What the model monitors, and what its document expects.
    """

    __pydantic_config__: ClassVar = _STRICT

    by_line: list[GroupScore] = field(default_factory=list)
    by_fold: list[GroupScore] = field(default_factory=list)
    pooled: list[GroupScore] = field(default_factory=list)
    thresholds: dict[str, OptionalNumber] = field(default_factory=dict)
    generalisation: Generalisation = field(default_factory=Generalisation)
    support_draws: SupportDraws | None = None
    diagnostics: dict[str, Diagnostic] = field(default_factory=dict)
    success_criteria: list[SuccessCriterion] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """data.json: what the runs of every task write."""

    __pydantic_config__: ClassVar = _STRICT

    task: str = ""
    split_hash: str | None = None
    fold: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScreenRecord(DataRecord):
    """data.json of screens."""

    __pydantic_config__: ClassVar = _STRICT

    cells: int | None = None
    genes: int | None = None
    training_perturbations: int | None = None
    units_by_role: dict[str, int] = field(default_factory=dict)
    cells_by_role: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PairRecord(DataRecord):
    """data.json of pairs; `tests` names the split."""

    __pydantic_config__: ClassVar = _STRICT

    pairs: int | None = None
    elements: int | None = None
    lines: list[str] = field(default_factory=list)
    tests: str = ""
    pairs_by_role: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Environment:
    """environment.json: command, revision, threads and versions."""

    __pydantic_config__: ClassVar = _STRICT

    command: str = ""
    git_revision: str | None = None
    python: str = ""
    platform: str = ""
    threads: int | None = None
    packages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """failure.json of a job: whether its request was wrong, one message, and the traceback."""

    __pydantic_config__: ClassVar = _STRICT

    wrong_request: bool
    message: str
    traceback: str = ""
