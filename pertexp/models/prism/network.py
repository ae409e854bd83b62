"""Two streams over one backbone: what a pair is anywhere, and what it says of its cell line."""

from dataclasses import dataclass

from torch import Tensor, nn

from pertexp.data.pairs.loader import Batch
from pertexp.models.backbones.backbone import SequenceBackbone
from pertexp.models.prism.energy import Energy, EnergyOptions, Reading


@dataclass(frozen=True, eq=False)
class View:
    """What the network makes of a batch of n pairs in G pure batches.

    Attributes
    ----------
    invariant
        z_I `[n, d_I]`.
    potential
        U_I `[n]`.
    own
        e `[n, d_E]`.
    line
        z_E `[G, d_E]`, the mean of e over each support set; None while the environment is frozen.
    reading
        Logits, R_E and T `[n]`.
    """

    invariant: Tensor
    potential: Tensor
    own: Tensor
    line: Tensor | None
    reading: Reading


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
        self.environment = nn.Sequential(  # f_E'
            nn.Linear(middle, 2 * environment_width), nn.GELU(), nn.Linear(2 * environment_width, environment_width)
        )
        self.energy = Energy(energy, environment_width)  # g_E is in it

    def forward(self, batch: Batch, *, environment: bool = True) -> View:
        """Read a batch; without `environment` R_E = 0 and λ = 0, and no support set is looked at."""
        features = self.backbone(batch["enhancer"], batch["promoter"])
        invariant = self.invariant(features.pair)
        potential = self.potential(invariant)[:, 0]
        own = self.environment(features.middle)
        line = self.lines(batch) if environment and self.energy.has_environment else None
        reading = self.energy(potential, own, None if line is None else line[batch["group"]])
        return View(invariant, potential, own, line, reading)

    def lines(self, batch: Batch) -> Tensor:
        """z_E `[G, d_E]` of the support sets of a batch."""
        enhancer, promoter = batch["support_enhancer"], batch["support_promoter"]
        features = self.backbone(enhancer.flatten(0, 1), promoter.flatten(0, 1))
        return self.environment(features.middle).unflatten(0, enhancer.shape[:2]).mean(dim=1)

    def environment_parameters(self) -> list[nn.Parameter]:
        """f_E', g_E, λ and what reads T off z_E: what is frozen while the basis is learnt; a learnt T is not."""
        own = [p for name, p in self.energy.named_parameters() if name != "t"]
        return [*self.environment.parameters(), *own]
