"""Predictions with part of the input masked at inference, to tell which inputs a model uses."""

from collections.abc import Iterable, Iterator
from typing import Literal

import torch

from pertexp.data.pairs.datamodule import PairData
from pertexp.data.pairs.loader import Batch
from pertexp.data.pairs.tokens import UNKNOWN

Side = Literal["enhancer", "promoter"]
WITHOUT: dict[str, Side] = {"enhancer only": "promoter", "promoter only": "enhancer"}
PERMUTED = "permuted support"


def unknown(batch: Batch, side: Side) -> Batch:
    """Return the batch with N in place of every base of one element of the pairs; the support sets stay."""
    return {**batch, side: torch.full_like(batch[side], UNKNOWN)}


def masked_batches(data: PairData, role: str = "test") -> Iterator[tuple[str, Iterable[Batch]]]:
    """By name of the mask, the scored pairs of a role as the masked model sees them.

    The support set of another line is left out where there is no support set, or no other line to take it from.
    """
    for name, side in WITHOUT.items():
        yield name, (unknown(batch, side) for batch in data.loader(role))
    permuted = data.design.permuted_support(role) if data.support_size else {}
    if permuted:
        yield PERMUTED, data.loader(role, support=permuted)
