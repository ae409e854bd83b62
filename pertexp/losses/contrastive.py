"""Contrastive loss of environment features: those of one cell line are pulled together, others pushed apart."""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Vectors shorter than this are not stretched to length 1: the direction of a zero vector has an unbounded gradient.
SHORTEST = 1e-4

Labelled = tuple[Tensor, Tensor]


def line_contrast(e: Tensor, line: Tensor, queue: Labelled | None = None, temperature: float = 0.1) -> Tensor:
    """InfoNCE with all samples of the same line as positives.

        −mean_i log( Σ_{j ≠ i, c_j = c_i} exp(e_iᵀ e_j / τ) / Σ_{j ≠ i} exp(e_iᵀ e_j / τ) ),    ‖e_i‖ = 1,

    This is a mean over the anchors i that have a positive and a negative. The positives are added up inside the
    logarithm (InfoNCE of Oord et al. 2018 with many positives), where Khosla et al. 2020 average logarithms.
    An anchor is content with one positive near by, so a line may settle in several clusters.

    In a batch of one line every other sample is a positive, the fraction is 1 and the loss is constant: log 1 = 0,
    whatever e. Negatives then come from a queue. Without any such anchor the result is 0 *without a gradient*; ask
    `has_negatives` beforehand.

    Parameters
    ----------
    e
        `[n, d]`, normalised here.
    line
        `[n]` index of the cell line.
    queue
        Further samples `(e [m, d], line [m])` to compare with; they are no anchors, and are taken as constants.
    temperature
        τ > 0.
    """
    keys, key_line = e, line
    if queue is not None:
        keys, key_line = torch.cat([e, queue[0].detach().to(e)]), torch.cat([line, queue[1]])
    same, other = _partners(line, key_line)
    told = same.any(dim=1) & other.any(dim=1)
    if not told.any():
        return e.new_zeros(())
    similarity = _unit(e)[told] @ _unit(keys).T / temperature
    near = similarity.masked_fill(~same[told], -torch.inf).logsumexp(dim=1)
    all_others = similarity.masked_fill(~(same | other)[told], -torch.inf).logsumexp(dim=1)
    return (all_others - near).mean()


def has_negatives(line: Tensor, queue_line: Tensor | None = None) -> bool:
    """Return whether any sample of `line [n]` has one of its own line and one of another to compare with.

    Where none has, `line_contrast` is constant.
    """
    same, other = _partners(line, line if queue_line is None else torch.cat([line, queue_line]))
    return bool((same.any(dim=1) & other.any(dim=1)).any())


def _partners(line: Tensor, key_line: Tensor) -> tuple[Tensor, Tensor]:
    """Return which keys are of the same line, the sample itself left out, and which of another `[n, n + m]`."""
    equal = line[:, None] == key_line[None, :]
    itself = torch.eye(*equal.shape, dtype=torch.bool, device=line.device)
    return equal & ~itself, ~equal


def _unit(e: Tensor) -> Tensor:
    return functional.normalize(e, dim=1, eps=SHORTEST)


class Queue(nn.Module):
    """The last samples of earlier steps, in buffers: a step with one line finds the other lines here.

    Parameters
    ----------
    size
        Samples kept; the oldest give way.
    width
        Features of a sample.
    """

    rows: Tensor
    line: Tensor
    pushed: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width))
        self.register_buffer("line", torch.full((size,), -1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, e: Tensor, line: Tensor) -> None:
        """Keep `e [n, d]` of `line [n]`, without its graph; of a batch larger than the queue, its last samples."""
        size = len(self.line)
        kept = min(len(line), size)
        at = (self.pushed + torch.arange(len(line) - kept, len(line), device=self.line.device)) % size
        self.rows[at] = e[len(line) - kept :].detach().to(self.rows)
        self.line[at] = line[len(line) - kept :].to(self.line)
        self.pushed += len(line)

    def entries(self) -> Labelled:
        """Return samples held so far, `(e [m, d], line [m])`, oldest or newest in no certain order; copies."""
        filled = self.line >= 0
        return self.rows[filled], self.line[filled]
