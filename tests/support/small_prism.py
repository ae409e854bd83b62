"""A small PRISM."""

from functools import partial

import torch

from pertexp.data.pairs.datamodule import PairData
from pertexp.losses.interaction import BinaryCrossEntropy
from pertexp.models.backbones.cnn import Cnn
from pertexp.models.prism import PRISM

ADAMW = partial(torch.optim.AdamW, lr=1e-3)
LITTLE = Cnn(filters=4, layers=1, width=8, heads=2, products=4)


def model(data: PairData, loss=None, **options) -> PRISM:
    torch.manual_seed(0)
    return PRISM.from_data(data, loss or BinaryCrossEntropy(), ADAMW, LITTLE, **options)
