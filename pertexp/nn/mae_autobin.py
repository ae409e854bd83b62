"""MAE-autobin, the network of scFoundation (Hao et al. 2024), as an encoder of genes in the context of a cell.

Names and shapes of parameters are those of its released checkpoint.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL_EPSILON = 1e-4
EXTRA_TOKENS = 2  # T and S: target and source depth
LEAK = 0.1


@dataclass(frozen=True)
class MaeAutobinShape:
    """Sizes of the network.

    Attributes
    ----------
    n_genes
        Genes in their fixed order; 19,264 as released.
    width, depth, heads
        Of the encoder, which sees the expressed genes.
    out_width, out_depth, out_heads, head_width
        Of the decoder, which sees all of them.
    n_bins, bin_alpha
        Bins that a value is spread over, and the weight of the direct path to them.
    """

    n_genes: int = 19264
    width: int = 768
    depth: int = 12
    heads: int = 12
    out_width: int = 512
    out_depth: int = 6
    out_heads: int = 8
    head_width: int = 64
    n_bins: int = 100
    bin_alpha: float = 1.0


class AutoBin(nn.Module):
    """A value becomes a softmax-weighted sum of learned bin embeddings."""

    def __init__(self, width: int, n_bins: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.mlp = nn.Linear(1, n_bins)
        self.mlp2 = nn.Linear(n_bins, n_bins)
        self.emb = nn.Embedding(n_bins, width)
        self.emb_mask = nn.Embedding(1, width)  # for values hidden in pretraining
        self.emb_pad = nn.Embedding(1, width)

    def forward(self, value: Tensor) -> Tensor:
        """Return `[...]` → `[..., width]`."""
        direct = functional.leaky_relu(self.mlp(value.unsqueeze(-1)), LEAK)
        return torch.softmax(self.alpha * direct + self.mlp2(direct), dim=-1) @ self.emb.weight


class Encoder(nn.Module):
    """Post-norm transformer layers with a last layer norm."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.transformer_encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, batch_first=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """`x [B, L, width]`, `padding [B, L]` true where there is nothing."""
        for layer in self.transformer_encoder:
            x = layer(x, src_key_padding_mask=padding)
        normed: Tensor = self.norm(x)
        return normed


class FastAttention(nn.Module):
    """Softmax attention in linear time by positive random features (Choromanski et al. 2021, FAVOR+).

    The largest key is looked for within a cell. The released code looks for it in the batch, so that there a cell
    depends, through a constant of 1e-4, on its neighbours; in a batch of one both are the same.
    """

    projection_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        n_features = int(width * math.log(width))
        self.register_buffer("projection_matrix", torch.randn(n_features, width))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return `[B, heads, L, width]` each."""
        q, k = self._features(q, (-1,)), self._features(k, (-3, -2, -1))
        scale = (q @ k.sum(dim=-2).unsqueeze(-1)).reciprocal()
        return (q @ (k.transpose(-2, -1) @ v)) * scale

    def _features(self, x: Tensor, over: tuple[int, ...]) -> Tensor:
        x = x * x.shape[-1] ** -0.25
        raised = x @ self.projection_matrix.to(x.dtype).T
        shift = x.square().sum(dim=-1, keepdim=True) / 2 + raised.amax(dim=over, keepdim=True)
        features: Tensor = self.projection_matrix.shape[0] ** -0.5 * (torch.exp(raised - shift) + KERNEL_EPSILON)
        return features


class Attention(nn.Module):
    """Multi-head fast attention."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.fast_attention = FastAttention(head_width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner) for _ in range(3))
        self.to_out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, L, width]`."""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.to_q, self.to_k, self.to_v)
        )
        attended: Tensor = self.to_out(self.fast_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


class FeedForward(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, L, width]`."""
        out: Tensor = self.w2(functional.gelu(self.w1(x)))
        return out


class _Named(nn.Module):
    """A wrapper that holds a module as `fn`, as in the names of the released weights."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.fn = inner

    def forward(self, x: Tensor) -> Tensor:
        """Of the module inside."""
        out: Tensor = self.fn(x)
        return out


class _PreNorm(_Named):
    """Layer norm before the module inside."""

    def __init__(self, width: int, inner: nn.Module) -> None:
        super().__init__(inner)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, L, width]`."""
        out: Tensor = self.fn(self.norm(x))
        return out


class _Sequence(nn.Module):
    """Residual layers."""

    def __init__(self, shape: MaeAutobinShape) -> None:
        super().__init__()
        width = shape.out_width
        self.layers = nn.ModuleList(
            nn.ModuleList([
                _PreNorm(width, Attention(width, shape.out_heads, shape.head_width)),
                _PreNorm(width, _Named(FeedForward(width))),
            ])
            for _ in range(shape.out_depth)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, L, width]`."""
        for pair in self.layers:
            for part in pair.children():
                x = x + part(x)
        return x


class _Performer(nn.Module):
    calls_since_last_redraw: Tensor

    def __init__(self, shape: MaeAutobinShape) -> None:
        super().__init__()
        self.net = _Sequence(shape)
        self.register_buffer("calls_since_last_redraw", torch.tensor(0))  # of pretraining; nothing is redrawn here


class GeneDecoder(nn.Module):
    """Performer layers with a last layer norm."""

    def __init__(self, shape: MaeAutobinShape) -> None:
        super().__init__()
        self.performer = _Performer(shape)
        self.norm = nn.LayerNorm(shape.out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, L, width]`."""
        normed: Tensor = self.norm(self.performer.net(x))
        return normed


class MaeAutobin(nn.Module):
    """Values of a cell → one vector per gene that depends on the whole cell."""

    def __init__(self, shape: MaeAutobinShape) -> None:
        super().__init__()
        self.shape = shape
        self.token_emb = AutoBin(shape.width, shape.n_bins, shape.bin_alpha)
        self.pos_emb = nn.Embedding(shape.n_genes + EXTRA_TOKENS + 1, shape.width)  # the last row is padding
        self.encoder = Encoder(shape.width, shape.depth, shape.heads)
        self.decoder_embed = nn.Linear(shape.width, shape.out_width)
        self.decoder = GeneDecoder(shape)
        self.norm = nn.LayerNorm(shape.out_width)
        self.to_final = nn.Linear(shape.out_width, 1)  # of pretraining

    def forward(self, values: Tensor) -> Tensor:
        """Return `[B, n_genes + 2]` log1p(CP10k) with T and S behind → `[B, n_genes, out_width]`.

        The encoder sees the positive entries alone; the decoder all, zeros as the token of 0.
        """
        expressed = values > 0
        tokens = self.token_emb(values)
        encoded = self._encode(tokens, expressed)
        whole = torch.where(expressed.unsqueeze(-1), encoded, tokens) + self.pos_emb.weight[:-1]
        out: Tensor = self.norm(self.decoder(self.decoder_embed(whole)))
        return out[:, : self.shape.n_genes]

    def _encode(self, tokens: Tensor, expressed: Tensor) -> Tensor:
        """Encode `[B, L, width]` where a gene is expressed; cells are packed to the longest among them."""
        n_expressed = expressed.sum(dim=1)
        longest = int(n_expressed.max())
        place = torch.argsort(expressed.logical_not().to(torch.uint8), dim=1, stable=True)[:, :longest]
        padding = torch.arange(longest, device=tokens.device) >= n_expressed.unsqueeze(1)
        place_wide = place.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        packed = torch.gather(tokens, 1, place_wide)
        packed = torch.where(padding.unsqueeze(-1), self.token_emb.emb_pad.weight, packed)
        position = torch.where(padding, self.pos_emb.num_embeddings - 1, place)
        out = self.encoder(packed + self.pos_emb(position), padding)
        return torch.zeros_like(tokens).scatter(1, place_wide, out.to(tokens.dtype))
