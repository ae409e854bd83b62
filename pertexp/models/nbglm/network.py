"""The mean of the NB-GLM: a bounded bilinear effect on the log mean of control cells."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pertexp.models.learned_scalar import LearnedScalar

Bound = Literal["tanh", "none"]


@dataclass(frozen=True)
class Facts:
    """Fixed inputs of the network: embeddings, control means, dispersions.

    Attributes
    ----------
    gene_embedding, perturbation_embedding
        G `[G, dg]` and P `[P, dp]`; row 0 of P is control.
    log_control_mean
        `[C, G]` log μ_ctrl of each context, at size factor 1.
    unseen
        `[C, G]` true where no control cell of the context holds the gene: μ_ctrl is a prior there.
    theta
        `[G]` dispersions.
    phase_share
        `[C, 3]` shares of G1, S and G2M among control cells.
    """

    gene_embedding: Tensor
    perturbation_embedding: Tensor
    log_control_mean: Tensor
    unseen: Tensor
    theta: Tensor
    phase_share: Tensor


class NBGLMNetwork(nn.Module):
    """log μ = log μ_ctrl + Δ + β_phase + log s with Δ = α·tanh(G K P + b).

    Control cells have Δ = 0. Where a gene is unseen in controls its control mean is a prior, so an effect bounded
    relative to it would bound nothing real: there Δ = α·(G K P + b), and the gene can rise as far as the counts say.

    Parameters
    ----------
    facts
        Embeddings and statistics, kept as buffers.
    rank
        K = A Bᵀ with this many columns; the full K where None.
    bound
        `tanh`, or `none` for Δ = α·(G K P + b) throughout.
    alpha
        The scale α, fixed or learned (as log α).
    cell_cycle
        Whether β `[G, 2]` (S, G2M; G1 is the baseline) takes part.
    learn_theta
        Whether θ is trained (as log θ) or kept.
    """

    gene_embedding: Tensor
    perturbation_embedding: Tensor
    log_control_mean: Tensor
    unseen: Tensor
    phase_share: Tensor
    log_theta: Tensor
    log_alpha: Tensor

    def __init__(
        self,
        facts: Facts,
        *,
        rank: int | None,
        bound: Bound,
        alpha: LearnedScalar,
        cell_cycle: bool,
        learn_theta: bool,
    ) -> None:
        super().__init__()
        for name in ("gene_embedding", "perturbation_embedding", "log_control_mean", "unseen", "phase_share"):
            self.register_buffer(name, getattr(facts, name).clone())
        dtype = facts.gene_embedding.dtype
        n_genes, d_g = facts.gene_embedding.shape
        d_p = facts.perturbation_embedding.shape[1]
        shapes = {"K": (d_g, d_p)} if rank is None else {"A": (d_g, rank), "B": (d_p, rank)}
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(shape, dtype=dtype)) for name, shape in shapes.items()}
        )
        if rank is not None:  # K = A Bᵀ is still 0, but not a saddle in which no gradient flows
            nn.init.normal_(self.factors["B"], std=d_p**-0.5)
        self.bias = nn.Parameter(torch.zeros(n_genes, dtype=dtype))
        self.beta = nn.Parameter(torch.zeros(n_genes, 2, dtype=dtype)) if cell_cycle else None
        self.bounded = bound == "tanh"
        log_alpha = torch.tensor(alpha.value, dtype=dtype).log()
        self._keep("log_alpha", log_alpha, learned=alpha.mode == "learned")
        self._keep("log_theta", facts.theta.to(dtype).log(), learned=learn_theta)

    def _keep(self, name: str, value: Tensor, *, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    @property
    def kernel(self) -> Tensor:
        """K `[dg, dp]`."""
        kernel: Tensor = self.factors["K"] if "K" in self.factors else self.factors["A"] @ self.factors["B"].T
        return kernel

    @property
    def theta(self) -> Tensor:
        """Dispersions `[G]`: variance μ + μ²/θ."""
        return self.log_theta.exp()

    def effect(self, perturbation: Tensor, context: Tensor) -> Tensor:
        """Δ `[B, G]` of perturbation indices `[B]` in contexts `[B]`; 0 for control."""
        rows = self.perturbation_embedding[perturbation]
        raw = rows @ self.kernel.T @ self.gene_embedding.T + self.bias
        if self.bounded:
            raw = torch.where(self.unseen[context], raw, raw.tanh())
        return self.log_alpha.exp() * raw * (perturbation != 0).unsqueeze(1)

    def cycle(self, phase: Tensor) -> Tensor | float:
        """β of phases `[B]` → `[B, G]`: 0 in G1; plain 0 where the cell cycle takes no part."""
        if self.beta is None:
            return 0.0
        shift = torch.cat([torch.zeros_like(self.beta[:, :1]), self.beta], dim=1)
        return shift.T[phase]

    def forward(self, perturbation: Tensor, context: Tensor, phase: Tensor, log_size: Tensor) -> Tensor:
        """log μ `[B, G]` from four index or offset vectors `[B]`."""
        log_mean = self.log_control_mean[context] + self.effect(perturbation, context)
        return log_mean + self.cycle(phase) + log_size.unsqueeze(1)

    def mean(self, perturbation: Tensor, context: Tensor) -> Tensor:
        """Return expected counts `[B, G]` at size factor 1, phases mixed as among the control cells of the context."""
        log_mean = self.log_control_mean[context] + self.effect(perturbation, context)
        if self.beta is None:
            return log_mean.exp()
        shift = torch.cat([torch.zeros_like(self.beta[:, :1]), self.beta], dim=1)
        return log_mean.exp() * (self.phase_share[context] @ shift.T.exp())
