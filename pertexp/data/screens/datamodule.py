"""Lightning data modules of screens: a design, and loaders over its roles."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from pertexp.data.contract import RunData
from pertexp.data.screens.annotations import AnnotationSource
from pertexp.data.screens.batch_layouts import BatchLayout, CellBatches, Dealing
from pertexp.data.screens.batches import BatchLoader
from pertexp.data.screens.design import Design, DesignOptions, build_design
from pertexp.data.screens.reading import H5adFile
from pertexp.data.screens.screen import Screen
from pertexp.data.screens.simulator import SimulatedScreen


@dataclass(kw_only=True, eq=False)
class ScreenData(DesignOptions, RunData):
    """Loaders over the rows of a designed screen.

    Attributes
    ----------
    name
        Name of the data in run directories and tables.
    task
        Name of the task that these are data of.
    batch_size
        Rows a training batch.
    batches
        What the rows are, and how they are dealt.
    loader_seed
        Seed of the order of batches.
    annotation
        Source of gene sets, for models that use an ontology.
    """

    name: str
    task: ClassVar[str] = "screens"
    batch_size: Annotated[int, Field(ge=1)] = 512
    batches: BatchLayout = field(default_factory=CellBatches)
    loader_seed: int = 0
    annotation: AnnotationSource | None = None

    def __post_init__(self) -> None:
        RunData.__init__(self)
        self._design: Design | None = None

    def read(self) -> Screen:
        """Return the screen before any design."""
        raise NotImplementedError

    @property
    def design(self) -> Design:
        """The design, built at first use."""
        if self._design is None:
            self._design = build_design(self.read(), self)
            self.batches.require(self._design)
        return self._design

    @property
    def has_validation(self) -> bool:
        """Whether any row has the role val."""
        return bool((self.design.role == "val").any())

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Build the design before any loader is asked for."""
        _ = self.design

    def train_dataloader(self) -> BatchLoader:
        """Return training rows and controls, shuffled anew each epoch."""
        return self._loader(("train", "control"), shuffle=True)

    def val_dataloader(self) -> BatchLoader | list[Any]:
        """Return validation rows in a fixed order; an empty list where the split has none."""
        return self._loader(("val",), shuffle=False) if self.has_validation else []

    def _loader(self, roles: tuple[str, ...], *, shuffle: bool) -> BatchLoader:
        trainer = self.trainer
        dealing = Dealing(
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.loader_seed,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        return self.batches.loader(self.design, roles, dealing)


@dataclass(kw_only=True, eq=False)
class H5adScreenData(H5adFile, ScreenData):
    """A screen in an .h5ad file."""


@dataclass(kw_only=True, eq=False)
class SimulatedScreenData(ScreenData):
    """A screen with known truth."""

    simulator: SimulatedScreen

    def read(self) -> Screen:
        """Simulate."""
        return self.simulator()
