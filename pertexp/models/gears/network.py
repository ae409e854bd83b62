"""The GEARS network (Roohani, Huang & Leskovec 2023) on distinct perturbation sets.

δ, the change that GEARS adds to a control cell, depends on the perturbation set alone, and all that concerns genes
alone depends on neither. So the network works on one row for each distinct set of a batch, weighted by the number of
its cells, and on each gene once: the same outputs, gradients and running statistics as cell by cell.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from pertexp.nn.graph import Graph, GraphConvolution, Propagation, convolve, project_rows_
from pertexp.nn.grid_decoder import DecoderLayers, decode, grid
from pertexp.nn.weighted_norm import Perceptron, WeightedBatchNorm, remember

Scope = Literal["all", "first_cell", "none"]
POSITION_WEIGHT = 0.2


@dataclass(frozen=True)
class Sets:
    """Perturbation sets as lists of graph nodes.

    Attributes
    ----------
    start
        `[S + 1]` where the members of each set begin; an empty set is control.
    node
        `[K]` node of each member.
    sign
        `[K]` +1, or −1 where the member acts the other way (a knock-out among activations).
    """

    start: Tensor
    node: Tensor
    sign: Tensor

    @classmethod
    def of(cls, members: list[list[tuple[int, float]]]) -> "Sets":
        """From (node, sign) pairs by set."""
        flat = [member for own in members for member in own]
        lengths = torch.tensor([0, *(len(own) for own in members)])
        return cls(
            lengths.cumsum(0),
            torch.tensor([node for node, _ in flat], dtype=torch.int64),
            torch.tensor([sign for _, sign in flat], dtype=torch.get_default_dtype()),
        )

    def __len__(self) -> int:
        return int(self.start.numel()) - 1

    def take(self, rows: Tensor) -> "Sets":
        """Return some of the sets `[R]`, in that order."""
        length = self.start[rows + 1] - self.start[rows]
        start = torch.cat([length.new_zeros(1), length.cumsum(0)])
        shift = torch.repeat_interleave(self.start[rows] - start[:-1], length)
        member = torch.arange(int(start[-1]), device=rows.device) + shift
        return Sets(start, self.node[member], self.sign[member])

    def to(self, device: torch.device | str) -> "Sets":
        """On another device."""
        return replace(self, start=self.start.to(device), node=self.node.to(device), sign=self.sign.to(device))


@dataclass(frozen=True)
class DistinctRows:
    """The distinct rows of a batch of cells.

    Attributes
    ----------
    set
        `[R]` perturbation set of each row.
    weight
        `[R]` number of its cells.
    variant
        `[R]` which variant of the gene side it sees.
    of_cell
        `[B]` row of each cell.
    """

    set: Tensor
    weight: Tensor
    variant: Tensor
    of_cell: Tensor


def distinct_rows(perturbation: Tensor, variant: Tensor) -> DistinctRows:
    """Return one row for each distinct pair of set and variant of the gene side among the cells, both `[B]`."""
    n_variants = int(variant.max()) + 1
    keys, of_cell, cells = torch.unique(perturbation * n_variants + variant, return_inverse=True, return_counts=True)
    return DistinctRows(keys // n_variants, cells.to(torch.get_default_dtype()), keys % n_variants, of_cell)


def first_apart(perturbation: Tensor) -> Tensor:
    """Return the variant that each cell `[B]` of a batch sees as released: 0 the first, 1 all others."""
    variant = torch.ones_like(perturbation)
    variant[:1] = 0
    return variant


class GearsNetwork(nn.Module):
    """Names and shapes of parameters are those of the released weights, without those that nothing reads.

    Parameters
    ----------
    coexpression
        Normalised graph of the G genes, whose positions it mixes; None for none.
    perturbations
        Normalised graph of the P genes that can be perturbed.
    n_genes, width
        G and h.
    coexpress_layers, perturbation_layers
        Graph convolutions on each.
    scope
        `all`: the co-expression graph acts in every cell. `first_cell`: in the first of a batch alone, as released
        (its edges are not shifted from cell to cell). `none`: in no cell.
    uncertainty
        Whether a second head yields a log variance.
    embedded
        Whether gene embeddings come from outside: `none`, `base` (in place of the gene embedding) or `both` (in place
        of the positions, too).
    """

    def __init__(
        self,
        coexpression: Graph | None,
        perturbations: Graph,
        *,
        n_genes: int,
        width: int = 64,
        coexpress_layers: int = 1,
        perturbation_layers: int = 1,
        scope: Scope = "all",
        uncertainty: bool = False,
        embedded: Literal["none", "base", "both"] = "none",
    ) -> None:
        super().__init__()
        self.scope: Scope = "none" if coexpression is None else scope
        self.embedded = embedded
        self.coexpression = None if coexpression is None else Propagation(coexpression)
        self.ontology = Propagation(perturbations)
        if embedded == "none":
            self.gene_emb = nn.Embedding(n_genes, width)
        if embedded != "both":
            self.emb_pos = nn.Embedding(n_genes, width)
        self.pert_emb = nn.Embedding(perturbations.n_nodes, width)
        self.layers_emb_pos = nn.ModuleList(GraphConvolution(width) for _ in range(coexpress_layers))
        self.sim_layers = nn.ModuleList(GraphConvolution(width) for _ in range(perturbation_layers))
        self.bn_emb = WeightedBatchNorm(width)
        self.emb_trans_v2 = Perceptron(width, width, width)
        self.pert_fuse = Perceptron(width, width, width)
        self.bn_pert_base = WeightedBatchNorm(width)
        self.recovery_w = Perceptron(width, 2 * width, width)
        self.indv_w1 = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_genes, width, 1)))
        self.indv_b1 = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_genes, 1)))
        self.cross_gene_state = Perceptron(n_genes, width, width)
        self.indv_w2 = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, n_genes, width + 1)))
        self.indv_b2 = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, n_genes)))
        self.uncertainty_w = Perceptron(width, 2 * width, width, 1) if uncertainty else None
        self.project_()

    @property
    def variants(self) -> int:
        """Variants of the gene side without outside embeddings."""
        return 2 if self.scope == "first_cell" else 1

    @torch.no_grad()
    def project_(self) -> None:
        """Bring every embedding back into the unit ball, as `max_norm` does: to be called after each step."""
        for table in self.children():
            if isinstance(table, nn.Embedding):
                project_rows_(table.weight)

    def forward(
        self, sets: Sets, weight: Tensor, variant: Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """δ `[R, G]` and, with an uncertainty head, v `[R, G]`.

        Parameters
        ----------
        sets
            R perturbation sets.
        weight
            `[R]` cells that each row stands for.
        variant
            `[R]` variant of the gene side that each row sees.
        embedding
            `[G, V, h]` gene embeddings from outside, where the network was made for them.
        """
        weight = weight.to(self.indv_b1.dtype)
        n_variants = self.variants if embedding is None else embedding.shape[1]
        share = weight.new_zeros(n_variants).index_add(0, variant, weight)
        gene_side = self._gene_side(share, embedding)
        row_side = self._perturbation_side(sets, weight)
        genes, rows = self._joined(gene_side, row_side, weight, variant)
        decoder = DecoderLayers.of(self.recovery_w, self.indv_w1.squeeze(2), self.indv_b1.squeeze(1))
        own = decode(genes, rows, variant, weight, decoder)
        state = self.cross_gene_state(own, weight)
        final = self.indv_w2.squeeze(0)
        delta = torch.addcmul(self.indv_b2, own, final[:, 0]) + state @ final[:, 1:].T
        if self.uncertainty_w is None:
            return delta, None
        x = grid(genes, rows, variant).transpose(0, 1)
        return delta, self.uncertainty_w(x, weight[:, None].expand(x.shape[:2])).squeeze(2)

    def _gene_side(self, share: Tensor, embedding: Tensor | None) -> Tensor:
        """Return `[G, V, h]` genes before any perturbation; `share [V]` cells that see each variant."""
        outside = embedding is not None
        base = embedding if embedding is not None else self.gene_emb.weight.unsqueeze(1)
        cells = (share if outside else share.sum().reshape(1)).expand(base.shape[:2])
        base = self.bn_emb(base, cells).relu()
        position = embedding if embedding is not None and self.embedded == "both" else self.emb_pos.weight.unsqueeze(1)
        joined = base + POSITION_WEIGHT * self._positions(position)
        genes: Tensor = self.emb_trans_v2(joined, share.expand(joined.shape[:2]))
        return genes

    def _positions(self, position: Tensor) -> Tensor:
        """Return `[G, V, h]` positions, mixed along the co-expression graph if any; V doubles for `first_cell`."""
        mixed = [] if self.coexpression is None or self.scope == "none" else [self._mixed(position)]
        if self.scope == "all":
            return mixed[0]
        alone = position
        for depth, layer in enumerate(self.layers_emb_pos):
            alone = layer(alone if depth == 0 else alone.relu(), None)
        return torch.cat([*mixed, alone], dim=1)

    def _mixed(self, position: Tensor) -> Tensor:
        """Return the graph convolutions, on all variants at once: they share one sparse matrix."""
        assert self.coexpression is not None  # noqa: S101
        for depth, layer in enumerate(self.layers_emb_pos):
            position = position if depth == 0 else position.relu()
            flat = self.coexpression(position.flatten(1))
            position = layer(flat.view(position.shape), None)
        return position

    def _perturbation_side(self, sets: Sets, weight: Tensor) -> Tensor:
        """Return `[R, h]` what each set adds to every gene; zero for control."""
        length = sets.start.diff()
        perturbed = length.nonzero().flatten()
        rows = weight.new_zeros(len(sets), self.pert_emb.embedding_dim)
        if not perturbed.numel():
            return rows
        nodes, member = torch.unique(sets.node, return_inverse=True)
        table = convolve(self.pert_emb.weight, self.sim_layers, self.ontology, nodes).to(rows.dtype)
        owner = torch.repeat_interleave(torch.arange(len(sets), device=length.device), length)
        summed = rows.index_add(0, owner, table[member] * sets.sign.to(rows.dtype).unsqueeze(1))[perturbed]
        cells = weight[perturbed]
        if perturbed.numel() == 1:
            cells = cells.clamp_min(2)  # as released: one perturbed cell is counted twice, so that a batch norm works
        return rows.index_copy(0, perturbed, self.pert_fuse(summed, cells).to(rows.dtype))

    def _joined(self, genes: Tensor, rows: Tensor, weight: Tensor, variant: Tensor) -> tuple[Tensor, Tensor]:
        """Return both sides after the batch norm of their sum, which is separable.

        Over the grid the mean is Σ_r w_r (m_v(r) + e_r) and the variance, by the law of total variance,
        Σ_r w_r (q_v(r) + (m_v(r) + e_r − mean)²), with m and q the mean and variance over genes of a variant.
        """
        norm = self.bn_pert_base
        if norm.training:
            share = (weight / weight.sum()).unsqueeze(1)
            centre = genes.mean(dim=0)
            spread = (genes - centre).square().mean(dim=0)
            of_row = centre[variant] + rows
            mean = (share * of_row).sum(dim=0)
            variance = (share * (spread[variant] + (of_row - mean).square())).sum(dim=0)
            remember(norm, mean.detach(), variance.detach(), weight.sum() * genes.shape[0])
        else:
            mean, variance = norm.statistics(rows, weight)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return genes * scale, rows * scale + (norm.bias - mean * scale)
