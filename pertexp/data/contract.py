"""The interface of the data of a run."""

from typing import ClassVar

from lightning import LightningDataModule

from pertexp.runs.record import RecordedDesign


class RunData(LightningDataModule):
    """Data of a run of any task: loaders over the roles of a design.

    Attributes
    ----------
    name
        Name of the data in run directories and tables.
    task
        Name of the task that these are data of.
    split
        Builder of the split.
    """

    name: str
    task: ClassVar[str]
    split: object

    @property
    def design(self) -> RecordedDesign:
        """The data with their split, built at first use."""
        raise NotImplementedError

    @property
    def has_validation(self) -> bool:
        """Whether the fold in use has anything to validate on."""
        raise NotImplementedError
