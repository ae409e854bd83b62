"""Batches of cells: a seeded order, one vectorised gather per batch, and a position that can be resumed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

Batch = dict[str, Tensor]


class BatchRows(Protocol):
    """The interface of what batches are cut from."""

    def take(self, rows: np.ndarray) -> Batch:
        """Return the batch of these row indices `[B]`."""


@dataclass(frozen=True)
class Rows:
    """What a batch is cut from: cells, or groups of cells summed.

    Attributes
    ----------
    counts
        `[R, G]` CSR float32: expression of a cell, or sums over the cells of a group.
    perturbation, context, phase
        `[R]` int64 indices; phase is 0 (G1) throughout where phases are not known.
    log_size
        `[R]` float32 log s, or log Σs of a group.
    cells
        `[R]` float32 numbers of cells: 1 for a cell.
    """

    counts: sp.csr_matrix
    perturbation: np.ndarray
    context: np.ndarray
    phase: np.ndarray
    log_size: np.ndarray
    cells: np.ndarray

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    def take(self, rows: np.ndarray) -> Batch:
        """Return the batch of these row indices `[B]`; counts become dense `[B, G]`."""
        return {
            "counts": torch.from_numpy(gather(self.counts, rows)),
            "perturbation": torch.from_numpy(self.perturbation[rows]),
            "context": torch.from_numpy(self.context[rows]),
            "phase": torch.from_numpy(self.phase[rows]),
            "log_size": torch.from_numpy(self.log_size[rows]),
            "cells": torch.from_numpy(self.cells[rows]),
        }


def gather(matrix: sp.csr_matrix, rows: np.ndarray) -> np.ndarray:
    """Dense float32 `[B, G]` of some rows of a CSR matrix: two passes of compiled code over their stored entries."""
    return matrix[rows].toarray().astype(np.float32, copy=False)


class BatchLoader:
    """Batches of rows in an order that depends on (seed, epoch) alone.

    Lightning replays a plain DataLoader wrongly when a run resumes in mid-epoch. This loader carries its own position:
    `state_dict` after batch i says i + 1, and the order of an epoch is drawn anew from its seed, so a resumed run sees
    the batches that the killed one would have seen.

    Parameters
    ----------
    rows
        What to cut batches from.
    index
        `[n]` the rows of this role.
    batch_size
        Rows a batch; the last batch may be smaller.
    shuffle
        A new order each epoch; otherwise the order of `index`.
    seed
        Seed of the orders.
    rank, world_size
        This process among those that share the rows; every process gets the same number of batches.
    drop_last
        Leave out a last batch that is not full, where there is another: for models with batch norms.
    """

    def __init__(
        self,
        rows: BatchRows,
        index: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.rows = rows
        self.index = index
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.epoch = 0
        self.position = 0
        self._start = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch at its first batch."""
        self.epoch, self.position, self._start = epoch, 0, 0

    def __len__(self) -> int:
        share = math.ceil(self.index.size / self.world_size)
        return max(share // self.batch_size, 1) if self.drop_last else math.ceil(share / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self.position, self._start = (self._start if self._start < len(self) else 0), 0
        order = self._order()
        while self.position < len(self):
            start = self.position * self.batch_size
            self.position += 1
            yield self._cut(order[start : start + self.batch_size])

    def _cut(self, rows: np.ndarray) -> Batch:
        return self.rows.take(rows)

    def _order(self) -> np.ndarray:
        """Return the rows of this process in this epoch: equal shares, the first repeated to fill the last one."""
        order = self.index
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        share = math.ceil(order.size / self.world_size)
        return np.resize(order, share * self.world_size)[self.rank :: self.world_size]

    def state_dict(self) -> dict[str, int]:
        """Epoch and next batch."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue, in the next iteration, where `state_dict` was taken; those after it begin at the first batch."""
        self.epoch = state["epoch"]
        self.position = self._start = state["position"]
