"""The interface of a sequence backbone."""

from typing import NamedTuple, Protocol

from torch import Tensor, nn

from pertexp.data.pairs.design import PairDesign


class PairFeatures(NamedTuple):
    """Features of pairs that a backbone returns.

    Attributes
    ----------
    pair
        `[n, width]` features of the pair, after attention over both elements.
    middle
        `[n, middle_width]` intermediate features: what each element holds, and what goes together.
    """

    pair: Tensor
    middle: Tensor


class SequenceBackbone(nn.Module):
    """Tokens of enhancers `[n, Le]` and promoters `[n, Lp]` (uint8; A C G T N are 0 to 4) → `PairFeatures`.

    Attributes
    ----------
    width, middle_width
        Of the two kinds of features.
    """

    width: int
    middle_width: int

    def forward(self, enhancer: Tensor, promoter: Tensor) -> PairFeatures:
        """Features of the pairs."""
        raise NotImplementedError


class BackboneSource(Protocol):
    """A choice of the group `model/backbone`."""

    def __call__(self, design: PairDesign | None) -> SequenceBackbone:
        """Return a backbone that may look at the training elements; without a design one to load weights into."""
