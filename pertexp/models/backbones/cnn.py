"""Convolution over each element, attention over both."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pertexp.config.errors import RequestError
from pertexp.data.pairs.design import PairDesign
from pertexp.data.pairs.tokens import UNKNOWN
from pertexp.models.backbones.backbone import PairFeatures, SequenceBackbone
from pertexp.models.backbones.words import enriched_words

WORD = 8
SHARPNESS = 2.0  # of a scanner, per matching base
MISSES = 1.5  # bases by which a sequence may miss a word and still be half a match, at the start
RANDOM = -3.0  # bias of a random scanner, whose best match along an element is about 3
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Cnn:
    """A choice of `model/backbone`; call it to get the network.

    Attributes
    ----------
    filters, filter_length
        Motif scanners of each element, and the bases of each.
    pool
        Bases that make one token of the attention: the best match among them.
    width
        Of tokens and of the pair's features.
    layers, heads
        Of the attention over the tokens of both elements; without layers the pair is its intermediate features.
    products
        Features that multiply what the enhancer holds with what the promoter holds.
    dropout
        Share of features dropped in training.
    start
        `enriched`: scanners begin as the words that the training elements hold more often than their bases explain.
        `random`: at random, from which interactions of motifs are not found in a few thousand pairs.
    """

    filters: Count = 32
    filter_length: Annotated[int, Field(ge=WORD)] = 12
    pool: Count = 50
    width: Count = 64
    layers: Annotated[int, Field(ge=0)] = 1
    heads: Count = 4
    products: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    start: Literal["enriched", "random"] = "enriched"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise RequestError(
                f"model.backbone.width={self.width} is not divisible by model.backbone.heads={self.heads}: type a "
                "multiple."
            )

    def __call__(self, design: PairDesign | None) -> "CnnBackbone":
        """Return the network, its scanners started on the training elements of the design."""
        network = CnnBackbone(self)
        if self.start == "enriched" and design is not None:
            pairs, rows = design.pairs, design.index("train")
            for scanner, side in ((network.enhancer, pairs.enhancer), (network.promoter, pairs.promoter)):
                scanner.start_from_(enriched_words(pairs.elements, np.unique(side[rows]), WORD, self.filters))
        return network


class Scanner(nn.Module):
    """Match of each position with each filter, on the better strand, between 0 and 1.

    σ(s · (max over strands of Σ_l w[base, l] + b)); an unknown base matches nothing. Reading a filter backwards with
    complementary bases is reading the other strand, so one filter serves both.
    """

    letters: Tensor

    def __init__(self, filters: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(filters, UNKNOWN, length) / length**0.5)
        self.bias = nn.Parameter(torch.full((filters,), RANDOM))
        self.register_buffer("letters", torch.eye(UNKNOWN + 1, UNKNOWN), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Match tokens `[n, L]`: `[n, filters, L']`; sequences shorter than a filter are filled up with N."""
        forward, backward = self._scores(self._filled(tokens))
        return self._match(torch.maximum(forward, backward))

    def best(self, tokens: Tensor, pool: int) -> Tensor:
        """Return the best match `[n, filters, T]` in every stretch of `pool` places, the last one shorter.

        The best places are found without a gradient, and what stands there is matched again with one: the gradient is
        that of the pooled `forward`, which passes nothing on to other places, at a third of the time.
        """
        tokens = self._filled(tokens)
        with torch.no_grad():
            forward, backward = self._scores(tokens)
            scores = torch.maximum(forward, backward)
            stretch = min(pool, scores.shape[-1])
            found, place = functional.max_pool1d(scores, stretch, ceil_mode=True, return_indices=True)
            turned = backward.gather(2, place) > forward.gather(2, place)
        return self._match(self._rescored(tokens, place, turned) if torch.is_grad_enabled() else found)

    def _rescored(self, tokens: Tensor, place: Tensor, turned: Tensor) -> Tensor:
        """Scores of the filters at one place each `[n, filters, T]`, on the other strand where `turned`."""
        windows = tokens.unfold(1, self.weight.shape[-1], 1)
        rows = torch.arange(len(tokens), device=tokens.device)[:, None, None]
        seen = windows[rows, place]
        other = torch.where(seen == UNKNOWN, seen, UNKNOWN - 1 - seen).flip(-1)
        seen = torch.where(turned[..., None], other, seen)
        bases = functional.embedding(seen.int(), self.letters).flatten(-2)
        return torch.einsum("nftw,fw->nft", bases, self.weight.transpose(1, 2).flatten(1))

    def _scores(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return sums `[n, filters, L']` on either strand, without the bias."""
        letters, length = self.weight.shape[1:]
        windows = functional.embedding(tokens.int(), self.letters).flatten(1).unfold(1, letters * length, letters)
        both = torch.cat([self.weight, self.weight.flip(1, 2)])  # A C G T backwards is T G C A
        forward, backward = (both.transpose(1, 2).flatten(1) @ windows.transpose(1, 2)).chunk(2, dim=1)
        return forward, backward

    def _match(self, scores: Tensor) -> Tensor:
        return torch.sigmoid(SHARPNESS * (scores + self.bias[:, None]))

    def _filled(self, tokens: Tensor) -> Tensor:
        missing = self.weight.shape[-1] - tokens.shape[1]
        return functional.pad(tokens, (0, missing), value=UNKNOWN) if missing > 0 else tokens

    @torch.no_grad()
    def start_from_(self, words: np.ndarray) -> None:
        """Let the first filters be words `[W, k]`: +1 for the letter, −⅓ for the others, half a match at k − 1.5."""
        length = words.shape[1]
        offset = (self.weight.shape[-1] - length) // 2
        letters = functional.one_hot(torch.from_numpy(words.astype(np.int64)), UNKNOWN).transpose(1, 2)
        self.weight[: len(words)] = 0
        self.weight[: len(words), :, offset : offset + length] = letters * (4 / 3) - 1 / 3
        self.bias[: len(words)] = MISSES - length


class CnnBackbone(SequenceBackbone):
    """Scanners → motif content of each element → products of both, and attention over the tokens of both."""

    def __init__(self, options: Cnn) -> None:
        super().__init__()
        self.options = options
        filters, width = options.filters, options.width
        self.enhancer = Scanner(filters, options.filter_length)
        self.promoter = Scanner(filters, options.filter_length)
        self.left, self.right = nn.Linear(filters, options.products), nn.Linear(filters, options.products)
        self.middle_width = options.products + 2 * filters
        self.norm, self.dropout = nn.LayerNorm(self.middle_width), nn.Dropout(options.dropout)
        self.attention = _Attention(options) if options.layers else None
        self.width = self.middle_width + (width if options.layers else 0)

    def forward(self, enhancer: Tensor, promoter: Tensor) -> PairFeatures:
        """Features of the pairs; `pair` holds the intermediate ones and what the attention read."""
        pool = self.options.pool
        matches = self.enhancer.best(enhancer, pool), self.promoter.best(promoter, pool)
        left, right = (each.amax(dim=-1) for each in matches)
        middle = self.dropout(self.norm(torch.cat([self.left(left) * self.right(right), left, right], dim=1)))
        if self.attention is None:
            return PairFeatures(middle, middle)
        return PairFeatures(torch.cat([middle, self.attention(*matches)], dim=1), middle)


class _Attention(nn.Module):
    """Attention over one token per stretch of an element and one summary token, without positional encoding."""

    def __init__(self, options: Cnn) -> None:
        super().__init__()
        self.token = nn.Linear(options.filters, options.width)
        self.side = nn.Parameter(0.02 * torch.randn(2, options.width))
        self.reader = nn.Parameter(0.02 * torch.randn(options.width))
        layer = nn.TransformerEncoderLayer(
            options.width, options.heads, 2 * options.width, options.dropout, "gelu", batch_first=True, norm_first=True
        )
        layer.self_attn.dropout = 0.0  # drawing one for every pair of tokens would take longer than the attention
        self.layers = nn.TransformerEncoder(layer, options.layers, nn.LayerNorm(options.width), False)

    def forward(self, enhancer: Tensor, promoter: Tensor) -> Tensor:
        """Best matches `[n, filters, T]` of both elements to `[n, width]`."""
        both = zip((enhancer, promoter), self.side, strict=True)
        tokens = [self.token(matches.transpose(1, 2)) + side for matches, side in both]
        reader = self.reader.expand(len(enhancer), 1, -1)
        read: Tensor = self.layers(torch.cat([reader, *tokens], dim=1))[:, 0]
        return read
