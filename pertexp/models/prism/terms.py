"""The terms that are added to the task loss: they keep the cell line out of z_I, and in e.

Each is a module from a `Seen` to a number; all of them stand in `TERMS` by the name that `model.terms.*` knows.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from pertexp.losses.contrastive import Queue, line_contrast
from pertexp.losses.dependence import MutualInformation, cross_correlation
from pertexp.losses.regular import Prototypes, sparsity
from pertexp.models.prism.options import Contrast, PrismOptions, Prototype, Sparse, Term
from pertexp.nn.gradient_reversal import gradient_reversal

HIDDEN = 64  # units of the line classifier


@dataclass(frozen=True, eq=False)
class Seen:
    """Inputs of the terms in a step over G pure batches.

    Attributes
    ----------
    invariant, own
        z_I `[n, d_I]` and e `[n, d_E]`.
    line
        Class `[n]` of each pair's line among the training lines.
    support
        z_E `[G, d_E]`, and `[G]` the class of its line; None without support sets.
    """

    invariant: Tensor
    own: Tensor
    line: Tensor
    support: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Sizes:
    """K training lines, d_I, d_E, and the pairs of earlier steps that are remembered."""

    n_lines: int
    invariant: int
    environment: int
    queue: int


class Correlation(nn.Module):
    """Mean squared entry of the cross-correlation matrix of z_I and e: over pairs, since z_E is constant in a line."""

    def __init__(self, options: Term, sizes: Sizes) -> None:  # noqa: ARG002
        super().__init__()

    def forward(self, seen: Seen) -> Tensor:
        """In [0, 1]; about 1 / n for independent features of n pairs."""
        return cross_correlation(seen.invariant, seen.own)


class Invariance(nn.Module):
    """Cross-entropy of a cell-line classifier on z_I behind a gradient reversal: z_I is trained to hide the line.

    Every feature is standardised for D alone: z_I cannot escape by growing, nor hide a line in features of small
    variance, where a probe would find it. Pairs of earlier steps teach D too.

    Attributes
    ----------
    accuracy
        Share of the pairs of the latest step whose line D told, as a diagnostic; 1/K at chance.
    """

    accuracy: Tensor

    def __init__(self, options: Term, sizes: Sizes) -> None:  # noqa: ARG002
        super().__init__()
        self.norm = nn.BatchNorm1d(sizes.invariant, affine=False)
        self.classifier = nn.Sequential(nn.Linear(sizes.invariant, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, sizes.n_lines))
        self.queue = Queue(sizes.queue, sizes.invariant) if sizes.queue else None

    def forward(self, seen: Seen) -> Tensor:
        """In nats; ln K at chance."""
        told = self.tell(gradient_reversal(seen.invariant, 1.0))
        self.accuracy = (told.detach().argmax(dim=1) == seen.line).float().mean()
        loss = functional.cross_entropy(told, seen.line)
        if self.queue is None:
            return loss
        rows, line = self.queue.entries()
        self.queue.push(seen.invariant, seen.line)
        return (loss + functional.cross_entropy(self.tell(rows), line)) / 2 if len(line) else loss

    def tell(self, invariant: Tensor) -> Tensor:
        """Return logits `[n, K]` of the lines; one pair alone has no variance, and is scaled by that of the others."""
        alone = self.training and len(invariant) == 1
        seen = self._rested(invariant) if alone else self.norm(invariant)
        logits: Tensor = self.classifier(seen)
        return logits

    def _rested(self, invariant: Tensor) -> Tensor:
        return functional.batch_norm(invariant, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps)


class Contrastive(nn.Module):
    """InfoNCE on e: pairs of its cell line are pulled together, others pushed apart, in the step or in the queue."""

    def __init__(self, options: Contrast, sizes: Sizes) -> None:
        super().__init__()
        self.temperature = options.temperature
        self.queue = Queue(sizes.queue, sizes.environment) if sizes.queue else None

    def forward(self, seen: Seen) -> Tensor:
        """0 or more, in nats."""
        held = None if self.queue is None else self.queue.entries()
        loss = line_contrast(seen.own, seen.line, held, self.temperature)
        if self.queue is not None:
            self.queue.push(seen.own, seen.line)
        return loss


class Sparsity(nn.Module):
    """Mean |z_I| plus mean |z_E| (or of squares)."""

    def __init__(self, options: Sparse, sizes: Sizes) -> None:  # noqa: ARG002
        super().__init__()
        self.norm = options.norm

    def forward(self, seen: Seen) -> Tensor:
        """0 or more."""
        own = sparsity(seen.invariant, self.norm)
        return own if seen.support is None else own + sparsity(seen.support[0], self.norm)


class PrototypeConsistency(nn.Module):
    """Mean squared distance of e to the running mean of its line."""

    def __init__(self, options: Prototype, sizes: Sizes) -> None:
        super().__init__()
        self.prototypes = Prototypes(sizes.n_lines, sizes.environment, options.momentum)

    def forward(self, seen: Seen) -> Tensor:
        """0 or more."""
        loss: Tensor = self.prototypes(seen.own, seen.line)
        if seen.support is not None:
            mean, line = seen.support
            self.prototypes.update(line, mean.detach())
        return loss


class InformationBound(nn.Module):
    """An upper bound on the mutual information of z_I and e, and the likelihood that keeps the bound valid."""

    def __init__(self, options: Term, sizes: Sizes) -> None:  # noqa: ARG002
        super().__init__()
        self.bound = MutualInformation(sizes.invariant, sizes.environment, 2 * sizes.environment)

    def forward(self, seen: Seen) -> Tensor:
        """Return the bound in nats plus the negative log likelihood of its inner model, whose gradients do not mix."""
        bound, misfit = self.bound(seen.invariant, seen.own)
        bounded: Tensor = bound + misfit
        return bounded


TERMS: dict[str, Callable[..., nn.Module]] = {
    "correlation": Correlation,
    "invariance": Invariance,
    "contrastive": Contrastive,
    "sparsity": Sparsity,
    "prototype": PrototypeConsistency,
    "mutual_information": InformationBound,
}


def terms_of(options: PrismOptions, n_lines: int) -> nn.ModuleDict:
    """Return the terms that are not left out, by name."""
    sizes = Sizes(n_lines, options.invariant_width, options.environment_width, options.queue)
    chosen = {name: term for name, term in options.terms if term.weight}
    return nn.ModuleDict({name: TERMS[name](term, sizes) for name, term in chosen.items()})
