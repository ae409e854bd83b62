"""Batches of perturbed cells, each with a control cell, for models of the change between them."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch

from pertexp.data.screens.batches import Batch, BatchLoader, Rows, gather

ControlMatch = Literal["context", "any"]


class PairedLoader(BatchLoader):
    """Batches in which every cell has a control cell, as `control [B, G]` float32.

    A perturbed cell gets a control cell drawn uniformly, with replacement, from those of its context (or from all);
    a control cell is its own. The draw depends on (seed, epoch) alone, so that a resumed run sees the same pairs.

    Parameters
    ----------
    controls
        `[n]` rows of control cells that may be drawn.
    match
        `context`: controls of the cell's own context; `any`: of all, as cell-gears does.
    resample
        Draw anew each epoch; otherwise the pairs of the first epoch stay.
    rest
        As for `BatchLoader`.
    """

    rows: Rows

    def __init__(self, *args: Any, controls: np.ndarray, match: ControlMatch, resample: bool, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.controls = controls
        self.match = match
        self.resample = resample

    def __iter__(self) -> Iterator[Batch]:
        partner = self._partners()
        for batch in super().__iter__():
            rows = batch["row"].numpy()
            batch["control"] = torch.from_numpy(gather(self.rows.counts, partner[rows]))
            batch["control_row"] = torch.from_numpy(partner[rows])
            yield batch

    def _cut(self, rows: np.ndarray) -> Batch:
        return {**super()._cut(rows), "row": torch.from_numpy(rows)}

    def _partners(self) -> np.ndarray:
        """Return the control row of every row `[R]` in this epoch."""
        rng = np.random.default_rng([self.seed, self.epoch if self.resample else 0, 1])
        partner = np.arange(len(self.rows))
        perturbed = self.rows.perturbation != 0
        group = self.rows.context if self.match == "context" else np.zeros_like(self.rows.context)
        for each in np.unique(group[perturbed]):
            own = self.controls[group[self.controls] == each]
            wanting = np.flatnonzero(perturbed & (group == each))
            partner[wanting] = own[rng.integers(own.size, size=wanting.size)]
        return partner
