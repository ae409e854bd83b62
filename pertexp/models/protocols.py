"""Typed protocols of models and baselines: required methods, and optional ones.

Nothing has to be inherited from: a class with these methods fits. A model is a `LightningModule` in addition, so its
training is `training_step`, `validation_step` and `configure_optimizers`, as Lightning has them.

===================  ========================================================================================
must, of screens     `ScreenModel`; `NamedPredictor` for `pertexp.predict`
must, of pairs       `PairModel`
baselines            `ScreenBaseline`, `PairBaseline`; `HasNotes` for what must be known of a row of screens;
                     `MayBeUnfair` where data can make one of pairs no fair rival
may                  `Staged` (parts), `Diagnosed` and `HasTargets` (diagnostics and success criteria of pairs),
                     `DrawsCells` and `DrawsNamedCells` (samples), `FindsTruth` (recovery)
===================  ========================================================================================

A contract that training itself relies on is defined there, and named here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from pertexp.data.pairs.datamodule import PairData
from pertexp.data.pairs.design import PairDesign
from pertexp.data.pairs.loader import Batch as PairBatch
from pertexp.data.screens.datamodule import ScreenData
from pertexp.data.screens.design import Design, TrainingProfiles
from pertexp.data.screens.profiles import Units
from pertexp.losses.contract import Loss
from pertexp.metrics.output import Output
from pertexp.models.vocabulary import Vocabulary
from pertexp.runs.schema import Diagnostic
from pertexp.training.plan import Part, Staged, StageEpoch
from pertexp.training.schedulers import Scheduler

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "Diagnosed",
    "DrawsCells",
    "DrawsNamedCells",
    "FindsTruth",
    "HasNotes",
    "HasTargets",
    "MayBeUnfair",
    "NamedPredictor",
    "PairBaseline",
    "PairModel",
    "PairPredictor",
    "PairSchema",
    "Part",
    "ScreenBaseline",
    "ScreenModel",
    "ScreenPredictor",
    "ScreenSchema",
    "StageEpoch",
    "Staged",
    "Target",
    "notes_of",
]


@dataclass(frozen=True, eq=False)
class ScreenSchema:
    """What a checkpoint says of the screen that its model was trained on.

    Attributes
    ----------
    vocabulary
        Names of perturbations and contexts in the order of their indices, and the embedding of every target.
    genes
        `[G]` names of the predicted genes, in order.
    scale, profile_scale
        Of the data, and of predicted profiles, in words.
    """

    vocabulary: Vocabulary
    genes: tuple[str, ...]
    scale: str
    profile_scale: str


@dataclass(frozen=True)
class PairSchema:
    """What a checkpoint says of the pairs that its model was trained on.

    Attributes
    ----------
    lines
        Names of all cell lines, in the order of their numbers.
    """

    lines: tuple[str, ...]


class ScreenPredictor(Protocol):
    """Anything that predicts profiles: a fitted baseline or a trained model."""

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` profiles on the declared scale (`Design.profile_scale`), in the order of the units."""


class ScreenModel(ScreenPredictor, Protocol):
    """A model of screens and a `LightningModule`; its file in `model/` names `from_data`, with `_partial_: true`.

    Attributes
    ----------
    predicts
        What `predict` returns, declared on the class: `Profile(scale)`, or `Impact()`, which no evaluation takes for a
        profile. A model that predicts on the scale of whatever data it is trained on declares `Profile("as_data")`;
        one whose options decide sets `predicts` on itself in `from_data` and `from_checkpoint`. A scale that is not
        that of the data's profiles (`Design.scale_of_profiles`) is refused once the model is built, before training.
    """

    predicts: Output

    @classmethod
    def from_data(
        cls,
        data: ScreenData,
        loss: Loss[Any],
        optimizer: Callable[..., Optimizer],
        scheduler: Scheduler,
        **options: Any,
    ) -> Self:
        """Build the model, untrained; refuse what does not fit before anything is trained.

        Parameters
        ----------
        data
            Whose design says what may be learned from; nothing of a test unit may.
        loss
            What the group `loss` builds.
        optimizer, scheduler
            Parameters → optimizer, and optimizer → schedule: `configured` makes of both what Lightning expects.
        options
            Everything else in the model's file: `name`, plain values, and built choices of groups below `model`.

        Raises
        ------
        MismatchError
            Where data, batches or loss are not what the model is trained on.
        RequestError
            Where an option cannot be used.
        """

    @classmethod
    def from_checkpoint(cls, weights: Mapping[str, Tensor], schema: ScreenSchema | None = None, **options: Any) -> Self:
        """Build the trained model from the contents of a checkpoint alone, ready to predict.

        Parameters
        ----------
        weights
            The `state_dict`; what shapes depend on is read off it, or off buffers.
        schema
            Names and scale. None: it predicts units, and is not asked by name.
        options
            Those of `from_data`, as the run had them.

        Raises
        ------
        DataError
            Where the weights are not those of this model with these options.
        """


@runtime_checkable
class NamedPredictor(ScreenPredictor, Protocol):
    """A trained model of screens that can be asked for perturbations by name, as `pertexp.predict` does.

    Attributes
    ----------
    predicts
        As `ScreenModel` has it.
    vocabulary
        The names that it knows, in the order of its indices; `units_named` may add to it.
    """

    predicts: Output
    vocabulary: Vocabulary

    def units_named(self, names: Sequence[str], context: str) -> Units:
        """Return units `[U]` of canonical names in a context, to hand to `predict`.

        Raises
        ------
        DataError
            Where a name cannot be predicted: a member has no embedding.
        RequestError
            Where the context is not known.
        """


@runtime_checkable
class DrawsCells(Protocol):
    """A model of screens that draws cells of the tested perturbations at the end of a run."""

    def samples(self, design: Design, seed: int) -> "AnnData | None":
        """Return AnnData of cells, or None where none were asked for."""


@runtime_checkable
class DrawsNamedCells(Protocol):
    """A trained model of screens that draws counts, as `pertexp.predict cells=...` does."""

    def sample(self, units: Units, size_factor: np.ndarray, seed: int) -> np.ndarray:
        """Return counts `[U, G]`, one cell a unit, at size factors `[U]`; equal seeds draw equal cells."""


@runtime_checkable
class FindsTruth(Protocol):
    """A model of screens that can be compared with what a simulator planted."""

    def recovery(self, design: Design) -> dict[str, float]:
        """Named scores of the recovery; called where `design.screen.truth` is there."""


class ScreenBaseline(ScreenPredictor, Protocol):
    """A predictor that is fitted on training profiles at once: an entry of `evaluation.baselines`.

    One that predicts impacts declares `predicts = Impact()`, as a model does; without it, a baseline predicts profiles
    on the scale of the data.
    """

    def fit(self, training: TrainingProfiles) -> Self:
        """Learn from training profiles, choose on validation profiles; return itself."""


@runtime_checkable
class HasNotes(Protocol):
    """A baseline of screens of whose row something has to be known, such as a file that was not there."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes, each to stand after the name of the row: `without the kernel string, ...`."""


def notes_of(baseline: ScreenBaseline) -> tuple[str, ...]:
    """Return what has to be known of the row of a baseline; nothing where it does not say."""
    return baseline.notes if isinstance(baseline, HasNotes) else ()


@runtime_checkable
class PairPredictor(Protocol):
    """A trained model of pairs."""

    def predict(self, batches: Iterable[PairBatch]) -> np.ndarray:
        """Return P(y = 1) `[n]` of the pairs of all batches, in their order; `PairLoader` says what a batch holds."""


class PairModel(PairPredictor, Protocol):
    """A model of pairs and a `LightningModule`; its file in `model/` names `from_data`, with `_partial_: true`.

    Attributes
    ----------
    predicts
        `Probability()`.
    """

    predicts: ClassVar[Output]

    @classmethod
    def from_data(
        cls, data: PairData, loss: Loss[Any], optimizer: Callable[..., Optimizer], scheduler: Scheduler, **options: Any
    ) -> Self:
        """Build the model, untrained; parameters and errors as those of `ScreenModel.from_data`."""

    @classmethod
    def from_checkpoint(cls, weights: Mapping[str, Tensor], schema: PairSchema | None = None, **options: Any) -> Self:
        """Build the trained model from the contents of a checkpoint alone; as `ScreenModel.from_checkpoint`."""


class PairBaseline(Protocol):
    """A predictor that is fitted on training pairs at once: an entry of `evaluation.baselines`."""

    def fit(self, design: PairDesign) -> Self:
        """Learn from the training pairs; return itself."""

    def predict(self, design: PairDesign, rows: np.ndarray) -> np.ndarray:
        """Return P(y = 1) `[n]` of the pairs `rows` `[n]`."""


@runtime_checkable
class MayBeUnfair(Protocol):
    """A baseline that is shown but not counted on some data."""

    def unfair(self, design: PairDesign) -> str | None:
        """Why it is not counted there, in words; None where it is."""


@runtime_checkable
class Diagnosed(Protocol):
    """A model of pairs with diagnostics: quantities that are shown with the score."""

    def diagnostics(self, data: PairData) -> Mapping[str, Diagnostic]:
        """Quantities by name, each with its chance level where there is one, measured on the data of the run."""


@dataclass(frozen=True)
class Target:
    """A success criterion: where a quantity should lie.

    Attributes
    ----------
    quantity
        The name of a diagnostic, or one of `train/auprc`, `gap`, `test/auprc`, `test/recall`, `test/precision`.
    low, high
        Both ends belong to it; an infinite one is open.
    said
        The criterion in words.
    """

    quantity: str
    low: float
    high: float
    said: str


@runtime_checkable
class HasTargets(Protocol):
    """A model of pairs whose design set success criteria."""

    targets: tuple[Target, ...]
