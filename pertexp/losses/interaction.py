"""Losses of pairs on logits and labels, with or without balanced classes.

Labels are 0 or 1 in floating point, and s = ±1 is the sign that goes with them. Everything is computed from logits:
no probability is formed, so no logit is too large for a finite loss and gradient.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pertexp.config.errors import DataError, RequestError
from pertexp.losses.contract import Loss, PairPrediction

# Of the two scales of IMMAX, which add up to 2, neither leaves this range.
SMALLEST, LARGEST = 0.02, 1.98


class PairLoss(nn.Module, Loss[PairPrediction]):
    """A loss of pairs; what it learns from training labels and batches is kept in buffers, and so in checkpoints.

    Attributes
    ----------
    balances
        Whether it treats the imbalance of the classes itself. A sampler that balances them too corrects twice.
    share
        `[2]` shares of the negative and the positive class among the training labels; NaN before `fit`.
    """

    share: Tensor
    needs = frozenset({"logit", "label"})

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.full((2,), torch.nan))

    def fit(self, label: np.ndarray | Tensor) -> None:
        """Learn the training prior from all training labels `[N]` at once; a batch cannot tell it."""
        values = torch.as_tensor(label).double()
        found = torch.unique(values).tolist()
        if found != [0, 1]:
            shown = ", ".join(f"{value:g}" for value in found[:5]) or "none"
            raise DataError(
                f"The {len(values)} training labels hold {shown}: expected both 0 and 1; "
                "check the column of labels and data.split."
            )
        self.share.copy_(torch.stack([1 - values.mean(), values.mean()]))

    def batch_loss(self, given: PairPrediction) -> Tensor:
        """Return the loss of a batch, a scalar."""
        value: Tensor = self(given.logit, given.label, given.norm if "norm" in self.needs else None)
        return value

    def prior(self) -> Tensor:
        """`share`, refused while it is unknown."""
        if self.share.isnan().any():
            raise RuntimeError(f"{type(self).__name__} needs the training prior: call fit(labels) first.")
        return self.share

    def forward(self, logit: Tensor, label: Tensor, norm: Tensor | None = None) -> Tensor:
        """Compute the loss, a mean over pairs, of `logit [n]`, `label [n]` and `norm [n]`, ‖z_I‖ of every pair."""
        raise NotImplementedError


class BinaryCrossEntropy(PairLoss):
    """Mean of w_y softplus(−s·logit), in nats.

    Parameters
    ----------
    balance
        `none`: w = 1. `classes`: w_k = 1 / (2 m_k), with m the class shares of the training labels, so that both
        classes weigh the same over the training set (`class_weight="balanced"` of scikit-learn). It is not divided by
        the weights of the batch, so batches add up to the loss of the whole set.
    """

    name = "bce"

    def __init__(self, balance: Literal["none", "classes"] = "none") -> None:
        if balance not in ("none", "classes"):
            raise RequestError(f"loss.balance={balance}: expected none or classes.")
        super().__init__()
        self.balances = balance == "classes"

    def forward(self, logit: Tensor, label: Tensor, norm: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the loss of a batch; the norm plays no part."""
        value = functional.softplus(-_margin(logit, label))
        return (value * (0.5 / self.prior())[label.long()]).mean() if self.balances else value.mean()


class Focal(PairLoss):
    """Focal loss, mean of α_y (1 − p_y)^γ (−log p_y), p_y the probability of the true class (Lin et al. 2017, Eq. 5).

    Parameters
    ----------
    gamma
        γ ≥ 0; 0 is cross-entropy.
    alpha
        Weight of the positive class, and 1 − α of the negative one; 1 for both where None.
    """

    name = "focal"

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        if not gamma >= 0:
            raise RequestError(f"loss.gamma={gamma}: expected a number ≥ 0.")
        if alpha is not None and not 0 < alpha < 1:
            raise RequestError(f"loss.alpha={alpha}: expected a number between 0 and 1, or null for no weights.")
        super().__init__()
        self.gamma, self.alpha = gamma, alpha
        self.balances = alpha is not None

    def forward(self, logit: Tensor, label: Tensor, norm: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return the loss of a batch; the norm plays no part."""
        margin = _margin(logit, label)
        # (1 − p)^γ = exp(−γ softplus(z)): a power of a probability that rounds to 0 would have no gradient.
        value = torch.exp(-self.gamma * functional.softplus(margin)) * functional.softplus(-margin)
        if self.alpha is not None:
            value = value * torch.where(label > 0.5, self.alpha, 1 - self.alpha)
        return value.mean()


class Immax(PairLoss):
    """Class-imbalanced margin loss, mean of Ψ(s·logit / ρ_y), Ψ(u) = log(1 + e^(−u)) (Cortes et al. 2025, IMMAX).

    The scales of the classes add up to 2, so equal ones are cross-entropy. A class of larger ρ has the gentler slope.
    In training the scales follow the batches (`prior`, `difficulty`); in evaluation they rest.

    Parameters
    ----------
    rho
        `fixed`: ρ₊/ρ₋ = value. `prior`: ρ_k ∝ m_k^(1/3) r_k^(2/3), which minimises the complexity term
        √(Σ m_k r_k² / ρ_k²) of the bound at a fixed sum of scales; m are the class shares of the training labels, r the
        running mean of ‖z_I‖ in the class. `difficulty`: see `hardest_split`.
    value
        ρ₊/ρ₋ of `fixed`, from 1/99 to 99.
    momentum
        Share of a running estimate that a batch leaves in place, in [0, 1).

    Attributes
    ----------
    positive_scale
        ρ₊ of `fixed` and `difficulty`, a buffer.
    size
        `[2]` running mean of ‖z_I‖ of the negative and the positive class, a buffer; NaN before the first batch.
    """

    name = "immax"
    positive_scale: Tensor
    size: Tensor

    def __init__(
        self,
        rho: Literal["fixed", "prior", "difficulty"] = "prior",
        value: float = 1.0,
        momentum: float = 0.9,
    ) -> None:
        if rho not in SCALES:
            raise RequestError(f"loss.rho={rho}: expected one of {', '.join(SCALES)}.")
        if not 1 / 99 <= value <= 99:
            raise RequestError(f"loss.value={value}: expected a ratio of scales from 1/99 to 99.")
        if rho != "fixed" and value != 1:
            raise RequestError(f"loss.value={value} has no effect with loss.rho={rho}: type loss.rho=fixed.")
        if not 0 <= momentum < 1:
            raise RequestError(f"loss.momentum={momentum}: expected a number in [0, 1).")
        super().__init__()
        self.rho, self.momentum = rho, momentum
        self.balances = rho != "fixed" or value != 1
        if rho == "prior":
            self.needs = self.needs | {"norm"}
        self.register_buffer("positive_scale", torch.tensor(2 * value / (1 + value)))
        self.register_buffer("size", torch.full((2,), torch.nan))

    def forward(self, logit: Tensor, label: Tensor, norm: Tensor | None = None) -> Tensor:
        """Compute the loss of a batch; `norm` is used by `prior` alone, and taken as equal in both classes if None."""
        margin, positive = _margin(logit, label), label > 0.5
        if self.training:
            self._follow(margin.detach(), positive, norm)
        return functional.softplus(-margin / self.scales()[positive.long()]).mean()

    def scales(self) -> Tensor:
        """ρ of the negative and the positive class, `[2]`."""
        return SCALES[self.rho](self)

    @torch.no_grad()
    def _follow(self, margin: Tensor, positive: Tensor, norm: Tensor | None) -> None:
        """Move the running estimates by one batch; a class that it lacks says nothing."""
        if self.rho == "prior" and norm is not None:
            for k, members in enumerate((~positive, positive)):
                if members.any():
                    mean = norm.detach()[members].mean().to(self.size)
                    known = not self.size[k].isnan()
                    self.size[k] = self.momentum * self.size[k] + (1 - self.momentum) * mean if known else mean
        if self.rho == "difficulty":
            target = hardest_split(margin, positive, self.positive_scale).to(self.positive_scale)
            self.positive_scale.lerp_(target, 1 - self.momentum)


def hardest_split(margin: Tensor, positive: Tensor, positive_scale: Tensor) -> Tensor:
    r"""Where the scale ρ₊ of the positive class would have to lie for the loss to be stationary in it.

    With ρ₋ = 2 − ρ₊ and L(ρ₊) = mean Ψ(z/ρ_y),

        n dL/dρ₊ = S₊/ρ₊² − S₋/ρ₋²,    S_k = Σ_{y = k} −z Ψ'(z/ρ_k) = Σ_{y = k} z σ(−z/ρ_k),

    so dL/dρ₊ = 0 exactly where ρ₊/ρ₋ = √S₊/√S₋, that is ρ₊ = 2 √S₊ / (√S₊ + √S₋), the returned value. It lies on the
    side of ρ₊ to which L rises, so a running estimate that rests inside the range rests at a local *maximum* over ρ₊:
    the split of scales that is hardest for the network at hand. It is not the scale that the bound of IMMAX asks for.

    z is signed: pairs on the wrong side (z < 0) lower S and so sharpen the slope of their class. Where a class is on
    the wrong side on the whole (S ≤ 0), the hardest split gives it the least scale. Where both are, or one is absent,
    the batch tells of no such split and ρ₊ stays. Sums, not means of classes: the scales alone treat imbalance.

    With the network fixed there is such a maximum only while few pairs are on the wrong side and most margins are
    below about 2ρ; otherwise ρ₊ runs to an end of its range. In training the network answers a slope that has become
    steep, as in a game between the two, and ρ₊ wanders. A momentum of 0.99 steadies it.

    Parameters
    ----------
    margin
        z = s·logit `[n]`.
    positive
        `[n]` true where the label is 1.
    positive_scale
        ρ₊ at which the sums are taken.

    Returns
    -------
    ρ₊ in [0.02, 1.98], a scalar.
    """
    scale = torch.where(positive, positive_scale, 2 - positive_scale)
    pull = margin * torch.sigmoid(-margin / scale)
    root_positive = pull[positive].sum().clamp_min(0).sqrt()
    root_negative = pull[~positive].sum().clamp_min(0).sqrt()
    total = root_positive + root_negative
    told = (total > 0) & positive.any() & ~positive.all()
    split = 2 * root_positive / torch.where(told, total, torch.ones_like(total))
    return torch.where(told, split, positive_scale.to(split)).clamp(SMALLEST, LARGEST)


def _own(loss: Immax) -> Tensor:
    return torch.stack([2 - loss.positive_scale, loss.positive_scale])


def _prior(loss: Immax) -> Tensor:
    size = torch.ones_like(loss.size) if loss.size.isnan().any() else loss.size
    weight = loss.prior().pow(1 / 3) * size.clamp_min(torch.finfo(size.dtype).tiny).pow(2 / 3)
    positive = (2 * weight[1] / weight.sum()).clamp(SMALLEST, LARGEST)
    return torch.stack([2 - positive, positive])


SCALES = {"fixed": _own, "prior": _prior, "difficulty": _own}


def _margin(logit: Tensor, label: Tensor) -> Tensor:
    """s·logit `[n]`: above 0 on the right side."""
    return torch.where(label > 0.5, logit, -logit)
