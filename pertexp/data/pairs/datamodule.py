"""Lightning data modules of pairs: a design, and loaders over its roles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pertexp.data.contract import RunData
from pertexp.data.pairs.coordinates import CoordinatePairTable
from pertexp.data.pairs.design import PairDesign, Splitter, build_design
from pertexp.data.pairs.loader import PairLoader, Windows
from pertexp.data.pairs.pairs import Pairs
from pertexp.data.pairs.reading import EpFolder, SequencePairTable
from pertexp.data.pairs.sampler import CellBatchSampler, FixedSteps
from pertexp.data.pairs.simulator import SimulatedPairs

Count = Annotated[int, Field(ge=1)]
MANY = 4  # lines in a step: enough to compare a pair with those of other lines


@dataclass(kw_only=True, eq=False)
class PairData(RunData):
    """Loaders over pairs; see `PairLoader` for the fields of a batch.

    Attributes
    ----------
    name
        Name of the data in run directories and tables.
    split
        Builder of the split.
    task
        Name of the task that these are data of.
    enhancer_length, promoter_length
        Bases of the windows that a model sees: shorter elements lie between N.
    crop
        Where training cuts elements that are longer: in the `centre`, or at `random`. Held-out pairs are cut in the
        centre.
    reverse_complement
        Show either strand of an element in training. Held-out pairs keep theirs.
    batch_size, support_size
        Pairs of a pure batch, and of its support set; without support sets 0.
    lines_per_step
        Pure batches, of as many lines, in one training step; None: of all training lines, up to four.
    positives
        Range of the share of positives in a training batch, as in [0.45, 0.55]; None leaves the classes as they are.
        The sampler or the loss balances them, not both.
    loader_seed, support_seed
        Seed of the order, crops and strands of training; of the support sets of held-out pairs.
    """

    name: str
    split: Splitter
    task: ClassVar[str] = "pairs"
    enhancer_length: Count = 1000
    promoter_length: Count = 2000
    crop: Literal["centre", "random"] = "random"
    reverse_complement: bool = True
    batch_size: Count = 64
    support_size: Annotated[int, Field(ge=0)] = 32
    lines_per_step: Count | None = 1
    positives: tuple[float, float] | None = None
    loader_seed: int = 0
    support_seed: int = 0

    def __post_init__(self) -> None:
        RunData.__init__(self)
        self._design: PairDesign | None = None

    def read(self) -> Pairs:
        """Return the pairs before any split."""
        raise NotImplementedError

    @property
    def design(self) -> PairDesign:
        """The design, built at first use."""
        if self._design is None:
            self._design = build_design(
                self.read(),
                self.split,
                gap=self._windows(training=False).gap,
                support_size=self.support_size,
                support_seed=self.support_seed,
            )
        return self._design

    @property
    def lines_in_step(self) -> int:
        """Pure batches of a training step: `lines_per_step`, or where that is None what the training lines allow."""
        return self.lines_per_step or min(MANY, len(self.design.train_lines))

    @property
    def has_validation(self) -> bool:
        """Whether any pair has the role val."""
        return bool((self.design.role == "val").any())

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Build the design before any loader is asked for."""
        _ = self.design

    def train_dataloader(self) -> PairLoader:
        """Return training pairs in pure batches, in a new order each epoch."""
        pairs = self.design.pairs
        sampler = CellBatchSampler(
            self.design.index("train"),
            pairs.line,
            pairs.label,
            batch_size=self.batch_size,
            support_size=self.support_size,
            lines_per_step=self.lines_in_step,
            positives=self.positives,
            names=pairs.lines,
            seed=self.loader_seed,
            **self._processes(),
        )
        return PairLoader(pairs, sampler, self._windows(training=True), self.loader_seed)

    def val_dataloader(self) -> PairLoader | list[Any]:
        """Return validation pairs in a fixed order; an empty list where the split has none."""
        return self._fixed("val", self._processes()) if self.has_validation else []

    def test_dataloader(self) -> PairLoader:
        """Test pairs in a fixed order, without those of the support sets."""
        return self._fixed("test", self._processes())

    def loader(
        self,
        role: str,
        draw: int = 0,
        *,
        rows: np.ndarray | None = None,
        support: Mapping[int, np.ndarray] | None = None,
    ) -> PairLoader:
        """Scored pairs of a role in a fixed order, all of them on this process.

        Parameters
        ----------
        draw
            Number of the choice of support sets.
        rows
            `[n]` some of the scored pairs; None: all.
        support
            Other support sets `[S]`, by number of the line, than those of the draw.
        """
        return self._fixed(role, {"rank": 0, "world_size": 1}, draw, rows, support)

    def _fixed(
        self,
        role: str,
        processes: dict[str, int],
        draw: int = 0,
        rows: np.ndarray | None = None,
        support: Mapping[int, np.ndarray] | None = None,
    ) -> PairLoader:
        design = self.design
        steps = FixedSteps(
            design.scored(role, draw) if rows is None else rows,
            design.pairs.line,
            design.support(role, draw) if support is None else support,
            batch_size=self.batch_size,
            **processes,
        )
        return PairLoader(design.pairs, steps, self._windows(training=False))

    def _windows(self, *, training: bool) -> Windows:
        return Windows(
            enhancer=self.enhancer_length,
            promoter=self.promoter_length,
            random=training and self.crop == "random",
            both_strands=training and self.reverse_complement,
        )

    def _processes(self) -> dict[str, int]:
        trainer = self.trainer
        return {"rank": trainer.global_rank if trainer else 0, "world_size": trainer.world_size if trainer else 1}


@dataclass(kw_only=True, eq=False)
class EpPairData(EpFolder, PairData):
    """The enhancer-promoter pairs with hg19 sequence."""


@dataclass(kw_only=True, eq=False)
class TablePairData(SequencePairTable, PairData):
    """Pairs in a table with their sequences."""


@dataclass(kw_only=True, eq=False)
class CoordinatePairData(CoordinatePairTable, PairData):
    """Pairs given by coordinates, with a genome."""


@dataclass(kw_only=True, eq=False)
class SimulatedPairData(PairData):
    """Pairs with known truth."""

    simulator: SimulatedPairs

    def read(self) -> Pairs:
        """Simulate."""
        return self.simulator()
