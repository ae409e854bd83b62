"""What a model hands to its loss, and what a loss needs.

A model hands over one of the predictions below: tensors of a batch, by name. A loss states in `needs` which of them it
reads, and `require_loss` refuses a loss that needs more than the model offers. Every prediction offers `predicted`,
`observed` and `n_summed`, so a loss that needs these alone, such as `SquaredError`, fits every model.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from pertexp.config.errors import MismatchError


@dataclass(frozen=True, eq=False)
class CountPrediction:
    """Counts of a batch of B rows and G genes, and the distribution that a model predicts for them.

    Attributes
    ----------
    counts
        `[B, G]` observed counts, summed over the cells of a row.
    log_mu
        `[B, G]` log of the expected counts.
    theta
        `[G]` dispersions of a single cell: variance μ + μ²/θ.
    cells
        `[B]` number of cells that a row sums, in floating point.
    theta_fixed
        Whether θ is not trained, so that terms of θ alone may be dropped.
    """

    counts: Tensor
    log_mu: Tensor
    theta: Tensor
    cells: Tensor
    theta_fixed: bool = False

    @property
    def predicted(self) -> Tensor:
        """`[B, G]` expected counts."""
        return self.log_mu.exp()

    @property
    def observed(self) -> Tensor:
        """`[B, G]` counts."""
        return self.counts

    @property
    def n_summed(self) -> Tensor:
        """`[B]` number of cells of a row."""
        return self.cells


@dataclass(frozen=True, eq=False)
class ProfilePrediction:
    """Profiles of a batch of B cells and G genes, and those that a model predicts, on one scale.

    Attributes
    ----------
    predicted, observed
        `[B, G]` profiles.
    control
        `[B, G]` mean profile of the control cells of the context.
    condition
        `[B]` index of the perturbation of a cell.
    counted
        `[B, G]` true where a gene counts for the perturbation of the cell; None for a loss that does not need it.
    log_variance
        `[B, G]` predicted log variance; None for a loss that does not need it.
    """

    predicted: Tensor
    observed: Tensor
    control: Tensor
    condition: Tensor
    counted: Tensor | None = None
    log_variance: Tensor | None = None

    @property
    def n_summed(self) -> Tensor:
        """`[B]` ones: a row is one cell."""
        return self.observed.new_ones(len(self.observed))


@dataclass(frozen=True, eq=False)
class PairPrediction:
    """Labels of a batch of n pairs, and the probabilities that a model predicts for them.

    Attributes
    ----------
    logit
        `[n]` of the positive class.
    label
        `[n]` 0 or 1, in floating point.
    norm
        `[n]` ‖z_I‖, the size of the features that the logit is read from.
    """

    logit: Tensor
    label: Tensor
    norm: Tensor

    @property
    def predicted(self) -> Tensor:
        """`[n]` probability of the positive class."""
        return self.logit.sigmoid()

    @property
    def observed(self) -> Tensor:
        """`[n]` labels."""
        return self.label

    @property
    def n_summed(self) -> Tensor:
        """`[n]` ones: a row is one pair."""
        return torch.ones_like(self.label)


Given = TypeVar("Given", contravariant=True)


class Loss(Generic[Given]):
    """A loss: from the prediction of a batch to one number.

    Attributes
    ----------
    name
        For messages.
    needs
        Names of what it reads from a prediction.
    identifies_theta
        Whether its minimum determines the dispersions θ, so that a model may train them.
    balances
        Whether it treats the imbalance of classes. A sampler that balances them too corrects twice.
    """

    name: str
    needs: frozenset[str]
    identifies_theta: bool = False
    balances: bool = False

    def fit(self, label: np.ndarray | Tensor) -> None:
        """Learn from all training labels `[N]` at once, before training; most losses learn nothing."""

    def batch_loss(self, given: Given) -> Tensor:
        """Return the loss of a batch, a scalar."""
        raise NotImplementedError


class LossMismatchError(MismatchError):
    """A loss that needs what the model does not hand over.

    Attributes
    ----------
    found
        The message without its advice.
    offered
        Names of what the model hands over.
    """

    def __init__(self, found: str, offered: frozenset[str]) -> None:
        super().__init__(f"{found}: choose a loss that needs no more than this.")
        self.found, self.offered = found, offered


def offered_by(prediction: type[Any]) -> frozenset[str]:
    """Return names of what a prediction offers: its fields and properties."""
    properties = {name for name, member in vars(prediction).items() if isinstance(member, property)}
    return frozenset(properties | {field.name for field in fields(prediction)})


def require_loss(loss: Any, offered: frozenset[str], model_name: str) -> None:
    """Refuse a loss that needs what a model does not hand over.

    Raises
    ------
    LossMismatchError
        Naming what the loss needs and what the model offers.
    """
    if not isinstance(loss, Loss):
        found = f"the loss {type(loss).__name__} does not state what it needs, as a pertexp.losses.contract.Loss does"
        raise LossMismatchError(f"{found}; model={model_name} hands over {_listed(offered)}", offered)
    missing = loss.needs - offered
    if missing:
        raise LossMismatchError(
            f"loss={loss.name} needs {_listed(missing)}, and model={model_name} hands over {_listed(offered)}", offered
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
