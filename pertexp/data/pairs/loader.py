"""Turn steps into batches of tensors: windows are cut from stored tokens, the strand is drawn for each batch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pertexp.data.pairs.pairs import Pairs
from pertexp.data.pairs.sampler import Step, Steps
from pertexp.data.pairs.tokens import reverse_complement

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Windows:
    """What is cut from an element.

    Attributes
    ----------
    enhancer, promoter
        Bases of a window.
    random
        Crop longer elements anywhere; otherwise in their middle.
    both_strands
        Show either strand of an element with equal chance, each element by itself.
    """

    enhancer: int = 1000
    promoter: int = 2000
    random: bool = False
    both_strands: bool = False

    @property
    def gap(self) -> int:
        """What a token store needs between its elements."""
        return -(-max(self.enhancer, self.promoter) // 2)

    def cut(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return tokens of the enhancers `[B, enhancer]` and promoters `[B, promoter]` of the pairs `[B]`, uint8."""
        return (
            self._side(pairs, pairs.enhancer[rows], self.enhancer, rng),
            self._side(pairs, pairs.promoter[rows], self.promoter, rng),
        )

    def _side(self, pairs: Pairs, elements: np.ndarray, length: int, rng: np.random.Generator) -> Tensor:
        tokens = pairs.elements.store.windows(elements, length, rng if self.random else None)
        if self.both_strands:
            other = rng.random(elements.size) < 0.5
            tokens[other] = reverse_complement(tokens[other])
        return torch.from_numpy(tokens)


class PairLoader:
    """Batches of pairs, each a dictionary.

    With G pure batches a step, `n` pairs in all, support sets of S pairs, windows of Le and Lp bases:

    ==================  ================  =========  ==========================================================
    `enhancer`          `[n, Le]`         uint8      tokens: A C G T N are 0 to 4
    `promoter`          `[n, Lp]`         uint8      tokens
    `label`             `[n]`             float32    1 interacts, 0 does not
    `line`              `[n]`             int64      number of the cell line in `Pairs.lines`
    `pair`              `[n]`             int64      number of the pair in `Pairs`
    `group`             `[n]`             int64      which pure batch, 0 to G - 1
    `support_enhancer`  `[G, S, Le]`      uint8      support sets, one a pure batch; they carry no label
    `support_promoter`  `[G, S, Lp]`      uint8
    `support_pair`      `[G, S]`          int64
    `support_line`      `[G]`             int64
    ==================  ================  =========  ==========================================================

    The support keys are left out with S = 0. `support_pair` counts in `described_by`. No distance: see `Pairs`.

    Parameters
    ----------
    pairs
        Their token store has the gap that `windows` needs.
    steps
        Which pairs when; its position is the loader's.
    windows
        What to cut.
    seed
        Of crops and strands: with the epoch, the process and the step it fixes a batch.
    described_by
        What the support sets of `steps` are pairs of; None: `pairs`.
    """

    def __init__(
        self, pairs: Pairs, steps: Steps, windows: Windows, seed: int = 0, *, described_by: Pairs | None = None
    ) -> None:
        self.pairs = pairs
        self.steps = steps
        self.windows = windows
        self.seed = seed
        self.described_by = pairs if described_by is None else described_by

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for step in self.steps:
            at = [self.seed, self.steps.epoch, self.steps.rank, self.steps.position]
            yield self._batch(step, np.random.default_rng(at))

    def _batch(self, step: Step, rng: np.random.Generator) -> Batch:
        rows = np.concatenate([pure.rows for pure in step])
        enhancer, promoter = self.windows.cut(self.pairs, rows, rng)
        batch = {
            "enhancer": enhancer,
            "promoter": promoter,
            "label": torch.from_numpy(self.pairs.label[rows].astype(np.float32)),
            "line": torch.from_numpy(self.pairs.line[rows]),
            "pair": torch.from_numpy(rows),
            "group": torch.from_numpy(np.repeat(np.arange(len(step)), [pure.rows.size for pure in step])),
        }
        support = np.stack([pure.support for pure in step])
        if support.size:
            enhancer, promoter = self.windows.cut(self.described_by, support.ravel(), rng)
            batch |= {
                "support_enhancer": torch.unflatten(enhancer, 0, support.shape),
                "support_promoter": torch.unflatten(promoter, 0, support.shape),
                "support_pair": torch.from_numpy(support),
                "support_line": torch.tensor([pure.line for pure in step]),
            }
        return batch

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch at its first batch."""
        self.steps.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Epoch and next batch."""
        return self.steps.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue, in the next iteration, where `state_dict` was taken."""
        self.steps.load_state_dict(state)
