"""Samplers of pairs: pure batches of one cell line, with support sets, in an order that can be resumed."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from pertexp.config.errors import DataError, RequestError


class PureBatch(NamedTuple):
    """Pairs of one cell line, and a support set of others that describe it.

    Attributes
    ----------
    line
        Number of the cell line.
    rows
        `[B]` pairs.
    support
        `[S]` pairs of the same line, none of them in `rows`.
    """

    line: int
    rows: np.ndarray
    support: np.ndarray


Step = list[PureBatch]


class Steps:
    """Steps of an epoch by number, shared among processes, with a position that can be resumed.

    `state_dict` after step i says i + 1, and the steps of an epoch depend on its number alone, so a resumed run sees
    the steps that the killed one would have seen. Every process gets the same number of steps: where the division
    leaves a rest, the first steps are repeated.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.position = 0
        self._start = 0

    @property
    def n_steps(self) -> int:
        """Steps of an epoch over all processes."""
        raise NotImplementedError

    def plan(self) -> list[Step]:
        """Return all steps of the epoch at hand, over all processes."""
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch at its first step."""
        self.epoch, self.position, self._start = epoch, 0, 0

    def __len__(self) -> int:
        return math.ceil(self.n_steps / self.world_size)

    def __iter__(self) -> Iterator[Step]:
        self.position, self._start = (self._start if self._start < len(self) else 0), 0
        steps = self.plan()
        own = np.resize(np.arange(len(steps)), len(self) * self.world_size)[self.rank :: self.world_size]
        while self.position < len(self):
            self.position += 1
            yield steps[own[self.position - 1]]

    def state_dict(self) -> dict[str, int]:
        """Epoch and next step."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue, in the next iteration, where `state_dict` was taken; those after it begin at the first step."""
        self.epoch = state["epoch"]
        self.position = self._start = state["position"]


class CellBatchSampler(Steps):
    """Pure batches for training.

    Every pair is seen once an epoch where one line makes a step and classes are left as they are. With several lines a
    step, all of them different, the smaller lines are drawn from again until every step is full. With `positives`, each
    batch draws its share of positives from that range and takes both classes from shuffled pools that are refilled when
    they are empty: within a batch a pair is repeated only where its class is too small.

    Parameters
    ----------
    index
        `[n]` the pairs to sample from.
    line, label
        `[N]` of all pairs.
    batch_size, support_size
        Pairs of a pure batch, and others of the line that describe it; a line with fewer than both has smaller batches.
    lines_per_step
        Pure batches a step, of as many lines.
    positives
        Least and largest share of positives in a batch; None leaves the classes as they are.
    names
        Names of the lines, for errors.
    seed, rank, world_size
        Seed of all draws; this process among those that share the steps.

    Raises
    ------
    DataError
        Where a line has too few pairs for its support set, or no pair of a class that `positives` asks for.
    RequestError
        Where there are fewer lines than `lines_per_step`, or `positives` is no range of shares.
    """

    def __init__(
        self,
        index: np.ndarray,
        line: np.ndarray,
        label: np.ndarray,
        *,
        batch_size: int = 64,
        support_size: int = 32,
        lines_per_step: int = 1,
        positives: tuple[float, float] | None = None,
        names: tuple[str, ...] | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(rank, world_size)
        self.seed = seed
        self.label = label
        self.support_size = support_size
        self.lines_per_step = lines_per_step
        self.positives = positives
        self.rows = {int(number): index[line[index] == number] for number in np.unique(line[index])}
        self.sizes = {number: min(batch_size, rows.size - support_size) for number, rows in self.rows.items()}
        self._require(names or tuple(f"line {number}" for number in range(int(line.max(initial=0)) + 1)))

    @property
    def n_steps(self) -> int:
        """The fewest steps of distinct lines that hold every batch."""
        counts = [self._batches_of(number) for number in self.rows]
        return max(max(counts), math.ceil(sum(counts) / self.lines_per_step)) if counts else 0

    def plan(self) -> list[Step]:
        """Return all steps of the epoch, in a new order."""
        rng = np.random.default_rng([self.seed, self.epoch])
        slots: list[list[int]] = [[] for _ in range(self.n_steps)]
        order = rng.permutation(list(self.rows)).tolist()
        # Laid row by row into n_steps columns, no line meets itself in a column: it has no more batches than columns.
        laid = [number for number in order for _ in range(self._batches_of(number))]
        for place, number in enumerate(laid):
            slots[place % len(slots)].append(number)
        for slot in slots:
            others = [number for number in order if number not in slot]
            slot.extend(rng.permutation(others)[: self.lines_per_step - len(slot)].tolist())
        draws = {number: self._draws(number, rng) for number in order}
        return [
            [self._batch(number, next(draws[number]), rng) for number in slots[place]]
            for place in rng.permutation(len(slots))
        ]

    def _batches_of(self, number: int) -> int:
        batches: int = math.ceil(self.rows[number].size / self.sizes[number])
        return batches

    def _batch(self, number: int, rows: np.ndarray, rng: np.random.Generator) -> PureBatch:
        others = np.setdiff1d(self.rows[number], rows)
        return PureBatch(number, rows, rng.choice(others, self.support_size, replace=False))

    def _draws(self, number: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield batches of a line, without end."""
        rows, size = self.rows[number], self.sizes[number]
        if self.positives is None:
            while True:
                yield from np.split(rng.permutation(rows), range(size, rows.size, size))
        low, high = self.positives
        pools = [_Pool(rows[self.label[rows] == label], rng) for label in (0, 1)]
        while True:
            ones = round(size * rng.uniform(low, high))
            yield rng.permutation(np.concatenate([pools[1].draw(ones), pools[0].draw(size - ones)]))

    def _require(self, names: tuple[str, ...]) -> None:
        if not 1 <= self.lines_per_step <= max(len(self.rows), 1):
            raise RequestError(
                f"data.lines_per_step={self.lines_per_step} was asked for, and there are {len(self.rows)} training "
                f"lines: type a number from 1 to {len(self.rows)}."
            )
        for number, size in self.sizes.items():
            if size < 1:
                raise DataError(
                    f"Cell line {names[number]} has {self.rows[number].size} training pairs, too few for a support set "
                    f"of {self.support_size} and a batch: type a smaller data.support_size, or leave the "
                    "line out with data.lines=[...]."
                )
        if self.positives is None:
            return
        if not 0 < self.positives[0] <= self.positives[1] < 1:
            raise RequestError(
                f"data.positives={list(self.positives)} is no range of shares: type two ascending numbers between 0 "
                "and 1, as in data.positives=[0.45,0.55]."
            )
        for number, rows in self.rows.items():
            if np.unique(self.label[rows]).size < 2:
                raise DataError(
                    f"Cell line {names[number]} has training pairs of one label alone, so data.positives cannot be "
                    "met: type data.positives=null, or leave the line out with data.lines=[...]."
                )


class FixedSteps(Steps):
    """Pure batches for validation and test, in the order of the pairs, each line with one support set.

    Parameters
    ----------
    index
        `[n]` the pairs to go through.
    line
        `[N]` of all pairs.
    support
        Support set `[S]` per line.
    batch_size
        Pairs a batch.
    rank, world_size
        This process among those that share the steps.
    """

    def __init__(
        self,
        index: np.ndarray,
        line: np.ndarray,
        support: Mapping[int, np.ndarray],
        *,
        batch_size: int = 64,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(rank, world_size)
        by_line = {int(number): index[line[index] == number] for number in np.unique(line[index])}
        self._steps = [
            [PureBatch(number, part, support[number])]
            for number, rows in by_line.items()
            for part in np.split(rows, range(batch_size, rows.size, batch_size))
        ]

    @property
    def n_steps(self) -> int:
        """Batches over all processes."""
        return len(self._steps)

    def plan(self) -> list[Step]:
        """Return the steps, which are the same in every epoch."""
        return self._steps


class _Pool:
    """Rows in a shuffled order, shuffled anew whenever they are used up."""

    def __init__(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.rows = rows
        self.rng = rng
        self.left = rows[:0]

    def draw(self, count: int) -> np.ndarray:
        """Return the next rows; those of this draw come again last."""
        taken, self.left = self.left[:count], self.left[count:]
        while taken.size < count:
            fresh = self.rng.permutation(self.rows)
            again = np.isin(fresh, taken)
            fresh = np.concatenate([fresh[~again], fresh[again]])
            missing = count - taken.size
            taken, self.left = np.concatenate([taken, fresh[:missing]]), fresh[missing:]
        return taken
