"""Two streams over one backbone: features of a pair in any cell line, and features that describe the cell line."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pertexp.data.pairs.loader import Batch
from pertexp.models.backbones.backbone import SequenceBackbone
from pertexp.models.prism.energy import Energy, EnergyOptions, Reading
from pertexp.models.protocols import Part


@dataclass(frozen=True, eq=False)
class PrismOutput:
    """Outputs of the network for n pairs in G pure batches.

    Attributes
    ----------
    invariant
        z_I `[n, d_I]`.
    potential
        U_I `[n]`.
    own
        e `[n, d_E]`.
    line
        z_E `[G, d_E]`, the mean of e over each support set; None until the environment is active.
    scaled_line
        z_E `[n, d_E]` of each pair as the energy reads it, on the scale on which lines differ; None as `line`.
    reading
        Logits, R_E and T `[n]`.
    """

    invariant: Tensor
    potential: Tensor
    own: Tensor
    line: Tensor | None
    scaled_line: Tensor | None
    reading: Reading


class Apart(nn.Module):
    """z_E standardised by its running mean and standard deviation over cell lines.

    A mean over a support set is much the same in every line, so what tells lines apart would enter g_E as a small
    share of a large constant. The statistics follow training steps, in buffers, and carry no gradient.
    """

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, width: int, momentum: float = 0.98) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, line: Tensor) -> Tensor:
        """Return `[G, d_E]` to the same."""
        if self.training:
            self._follow(line.detach().to(self.mean))  # which mixed precision leaves in full
        return (line - self.mean) * (self.variance + 1e-6).rsqrt()

    @torch.no_grad()
    def _follow(self, line: Tensor) -> None:
        self.steps += 1
        share = torch.maximum(1 / self.steps, self.steps.new_tensor(1 - self.momentum, dtype=line.dtype))
        self.mean.lerp_(line.mean(dim=0), share)
        self.variance.lerp_((line - self.mean).square().mean(dim=0), share)


class PrismNetwork(nn.Module):
    """Backbone → z_I → U_I; intermediate features → e, averaged over a support set → z_E; both → energy → logit.

    Parameters
    ----------
    backbone
        What reads the sequences.
    energy
        How U_I, e and z_E become a logit.
    invariant_width, environment_width
        d_I and d_E.
    """

    def __init__(
        self, backbone: SequenceBackbone, energy: EnergyOptions, invariant_width: int, environment_width: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.invariant = nn.Sequential(nn.Linear(backbone.width, invariant_width), nn.ReLU())  # f_I
        self.potential = nn.Linear(invariant_width, 1)  # g_I
        middle = backbone.middle_width
        held = 2 * environment_width
        self.held = nn.Sequential(nn.Linear(middle, held), nn.GELU())
        self.environment = nn.Linear(held, environment_width)  # with `held`: f_E'
        self.apart = Apart(environment_width)
        self.energy = Energy(energy, held, environment_width)  # g_E is in it

    def forward(self, batch: Batch, *, environment: bool = True) -> PrismOutput:
        """Read a batch; without `environment` R_E = 0 and λ = 0, and no support set is looked at."""
        features = self.backbone(batch["enhancer"], batch["promoter"])
        invariant = self.invariant(features.pair)
        potential = self.potential(invariant)[:, 0]
        held = self.held(features.middle)
        own = self.environment(held)
        line = self.lines(batch) if environment and self.energy.has_environment else None
        scaled = None if line is None else self.apart(line)[batch["group"]]
        return PrismOutput(invariant, potential, own, line, scaled, self.energy(potential, held, scaled))

    def lines(self, batch: Batch) -> Tensor:
        """z_E `[G, d_E]` of the support sets of a batch."""
        enhancer, promoter = batch["support_enhancer"], batch["support_promoter"]
        features = self.backbone(enhancer.flatten(0, 1), promoter.flatten(0, 1))
        mean: Tensor = self.environment(self.held(features.middle)).unflatten(0, enhancer.shape[:2]).mean(dim=1)
        return mean

    def parts(self) -> dict[str, Part]:
        """Return the backbone; f_I and g_I; f_E', g_E, λ and what reads T off z_E; a learned T."""
        own = dict(self.energy.named_parameters())
        temperature = [own.pop("t")] if "t" in own else []
        return {
            "backbone": self.backbone,
            "interaction": [self.invariant, self.potential],
            "environment": [self.held, self.environment, *own.values()],
            "temperature": temperature,
        }
