"""Sources of the gene embeddings of GEARS."""

from typing import Protocol

from pertexp.data.screens.design import Design
from pertexp.models.scfoundation.embedding import ControlEmbedding


class CellEmbeddingSource(Protocol):
    """A choice of the group `model/embedding`."""

    def __call__(self, design: Design) -> ControlEmbedding | None:
        """Embeddings that depend on the control cell; None where the network learns one vector a gene itself."""


class GeneIds:
    """One learned vector a gene, the same in every cell."""

    def __call__(self, design: Design) -> None:
        """Nothing to prepare: the network learns them."""
