"""Batch layouts: what the rows of a batch are, and which loader yields them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch

from pertexp.config.errors import MismatchError
from pertexp.data.screens.batches import Batch, BatchLoader, Rows
from pertexp.data.screens.design import Design
from pertexp.data.screens.matched_controls import ControlMatch, PairedLoader
from pertexp.data.screens.profiles import Units, unit_groups, unit_profiles
from pertexp.data.screens.pseudobulk import Pseudobulk, cell_rows, pseudobulk_rows, require_summable

ROW_FIELDS = frozenset({"counts", "perturbation", "context", "phase", "log_size", "cells"})


@dataclass(frozen=True)
class Dealing:
    """How a loader orders its rows and forms batches.

    Attributes
    ----------
    batch_size
        Rows a batch.
    shuffle
        In a new order each epoch, as for training; otherwise in a fixed order, and none is left out.
    seed
        Seed of the orders.
    rank, world_size
        This process among those that share the rows.
    """

    batch_size: int
    shuffle: bool
    seed: int = 0
    rank: int = 0
    world_size: int = 1


class BatchLayout(Protocol):
    """A choice of the group `data/batches`.

    Attributes
    ----------
    choice
        Its name in the group.
    fields
        Names of the tensors of a batch: what models require.
    """

    choice: ClassVar[str]
    fields: ClassVar[frozenset[str]]

    def require(self, design: Design) -> None:
        """Refuse a design that cannot be laid out so (MismatchError), before anything is trained."""

    def loader(self, design: Design, roles: Sequence[str], dealing: Dealing) -> BatchLoader:
        """Return batches of the rows with one of these roles."""


def require_fields(layout: BatchLayout, needed: frozenset[str], model: str, choices: Sequence[str]) -> None:
    """Refuse a layout whose batches lack a tensor that a model is trained on.

    Raises
    ------
    MismatchError
        Naming the model and the choices of the group that fit it.
    """
    missing = sorted(needed - layout.fields)
    if missing:
        advice = " or ".join(f"data/batches={choice}" for choice in choices)
        raise MismatchError(
            f"model={model} is trained on batches that hold {', '.join(missing)}, and those of "
            f"data/batches={layout.choice} do not: type {advice}."
        )


@dataclass(kw_only=True, eq=False)
class RowLayout(ABC):
    """Batches of rows that are cells, or groups of cells.

    Attributes
    ----------
    drop_last
        Leave out a last training batch that is not full.
    """

    drop_last: bool = False

    def __post_init__(self) -> None:
        self._kept: tuple[Design, Rows, np.ndarray] | None = None

    def rows(self, design: Design) -> tuple[Rows, np.ndarray]:
        """Return the rows of a design and the role of each `[R]`; made once for the loaders of all roles."""
        if self._kept is None or self._kept[0] is not design:
            self._kept = (design, *self._rows(design))
        return self._kept[1:]

    @abstractmethod
    def _rows(self, design: Design) -> tuple[Rows, np.ndarray]:
        """Return the rows of a design and the role of each `[R]`."""

    def loader(self, design: Design, roles: Sequence[str], dealing: Dealing) -> BatchLoader:
        """Return batches of the rows with one of these roles."""
        rows, role = self.rows(design)
        return BatchLoader(
            rows,
            np.flatnonzero(np.isin(role, roles)),
            **vars(dealing),
            drop_last=self.drop_last and dealing.shuffle,
        )


@dataclass(kw_only=True, eq=False)
class CellBatches(RowLayout):
    """Single cells; see `Rows` for the fields of a batch."""

    choice: ClassVar[str] = "cells"
    fields: ClassVar[frozenset[str]] = ROW_FIELDS

    def require(self, design: Design) -> None:
        """Any design will do."""

    def _rows(self, design: Design) -> tuple[Rows, np.ndarray]:
        return cell_rows(design), design.role


@dataclass(kw_only=True, eq=False)
class PseudobulkBatches(RowLayout):
    """Sums, or means, of the cells of one perturbation, context and phase; see `pseudobulk_rows`.

    Attributes
    ----------
    combine
        `sum` of counts, or `mean`.
    """

    choice: ClassVar[str] = "pseudobulk"
    fields: ClassVar[frozenset[str]] = ROW_FIELDS

    combine: Pseudobulk = "sum"

    def require(self, design: Design) -> None:
        """Refuse sums of anything but counts."""
        require_summable(design, self.combine)

    def _rows(self, design: Design) -> tuple[Rows, np.ndarray]:
        return pseudobulk_rows(design, self.combine)


@dataclass(kw_only=True, eq=False)
class MatchedControlBatches(CellBatches):
    """Single cells, each with a control cell; see `PairedLoader`.

    Attributes
    ----------
    match
        Control cells of the cell's own `context`, or `any`.
    resample
        Draw them anew each epoch of training.
    """

    choice: ClassVar[str] = "matched_controls"
    fields: ClassVar[frozenset[str]] = ROW_FIELDS | {"row", "control", "control_row"}

    match: ControlMatch = "context"
    resample: bool = True

    def loader(self, design: Design, roles: Sequence[str], dealing: Dealing) -> PairedLoader:
        """Return batches of the cells with one of these roles, and of their control cells."""
        rows, role = self.rows(design)
        return PairedLoader(
            rows,
            np.flatnonzero(np.isin(role, roles)),
            **vars(dealing),
            controls=np.flatnonzero(role == "control"),
            match=self.match,
            resample=self.resample and dealing.shuffle,
            drop_last=self.drop_last and dealing.shuffle,
        )


@dataclass(frozen=True)
class UnitRows:
    """Perturbations in contexts with their mean profiles, on the scale of the design's profiles.

    Attributes
    ----------
    units
        The U units.
    profile, control
        `[U, G]` float32: profiles of their cells, and of the control cells of their contexts.
    cells
        `[U]` float32 numbers of cells.
    """

    units: Units
    profile: np.ndarray
    control: np.ndarray
    cells: np.ndarray

    def take(self, rows: np.ndarray) -> Batch:
        """Return the batch of these row indices `[B]`."""
        return {
            "perturbation": torch.from_numpy(self.units.perturbation[rows]),
            "context": torch.from_numpy(self.units.context[rows]),
            "profile": torch.from_numpy(self.profile[rows]),
            "control": torch.from_numpy(self.control[rows]),
            "cells": torch.from_numpy(self.cells[rows]),
        }


@dataclass(kw_only=True, eq=False)
class GraphBatches:
    """All units of a role as one batch, in a fixed order: one step an epoch; see `UnitRows`.

    Control units are no rows: their profiles come with every unit. Among several processes each holds all units, so
    their mean gradient is that of one process.
    """

    choice: ClassVar[str] = "graph"
    fields: ClassVar[frozenset[str]] = frozenset({"perturbation", "context", "profile", "control", "cells"})

    def require(self, design: Design) -> None:
        """Any design will do."""

    def loader(self, design: Design, roles: Sequence[str], dealing: Dealing) -> BatchLoader:
        """Return one batch of the units with one of these roles; no batch where there is none."""
        rows = unit_rows(design, roles)
        index = np.arange(len(rows.units))
        return BatchLoader(rows, index, max(index.size, 1), shuffle=False, seed=dealing.seed)


def unit_rows(design: Design, roles: Sequence[str]) -> UnitRows:
    """Return the perturbed units with one of these roles, in the order of roles and of the split table."""
    found = [design.units(role) for role in roles]
    units = Units(*(np.concatenate([getattr(own, name) for own in found]) for name in ("perturbation", "context")))
    group = unit_groups(design.screen, units)
    return UnitRows(
        units,
        profile=unit_profiles(design.screen, design.size_factor, units).astype(np.float32),
        control=design.training.control[units.context].astype(np.float32),
        cells=np.bincount(group[group >= 0], minlength=len(units)).astype(np.float32),
    )
