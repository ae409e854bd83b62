"""The network by hand, on a backbone that adds letters up, and the scale on which it sets lines apart."""

import numpy as np
import pytest
import torch
from torch import nn

from pertexp.models.backbones.backbone import PairFeatures
from pertexp.models.prism.energy import EnergyOptions
from pertexp.models.prism.network import Apart, PrismNetwork

WIDTH, MIDDLE, INVARIANT, ENVIRONMENT = 3, 2, 4, 5


class Sums(nn.Module):
    """Letters of both elements, linearly."""

    width, middle_width = WIDTH, MIDDLE

    def __init__(self):
        super().__init__()
        self.pair, self.middle = nn.Linear(6, WIDTH), nn.Linear(6, MIDDLE)

    def forward(self, enhancer, promoter):
        both = torch.cat([enhancer, promoter], dim=1).to(self.pair.weight)
        return PairFeatures(self.pair(both), self.middle(both))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PrismNetwork(Sums(), EnergyOptions(), INVARIANT, ENVIRONMENT).double()


def batch():
    """Four pairs of two lines, each line with a support set of three."""
    rng = np.random.default_rng(0)
    letters = {name: torch.from_numpy(rng.integers(0, 4, shape)) for name, shape in (
        ("enhancer", (4, 2)), ("promoter", (4, 4)), ("support_enhancer", (2, 3, 2)), ("support_promoter", (2, 3, 4)),
    )}  # fmt: skip
    return {**letters, "group": torch.tensor([0, 0, 1, 1])}


def environment_of(network, enhancer, promoter):
    return network.environment(nn.functional.gelu(network.held[0](network.backbone(enhancer, promoter).middle)))


def test_a_batch_by_hand(network):
    given = batch()
    found = network.train()(given)
    features = network.backbone(given["enhancer"], given["promoter"])
    invariant = (features.pair @ network.invariant[0].weight.T + network.invariant[0].bias).clamp_min(0)
    torch.testing.assert_close(found.invariant, invariant)
    torch.testing.assert_close(found.potential, invariant @ network.potential.weight[0] + network.potential.bias)
    torch.testing.assert_close(found.own, environment_of(network, given["enhancer"], given["promoter"]))
    supports = zip(given["support_enhancer"], given["support_promoter"], strict=True)
    lines = torch.stack([environment_of(network, *own).mean(dim=0) for own in supports])
    torch.testing.assert_close(found.line, lines)
    # The first step: mean and variance of the two lines are its own.
    scaled = (lines - lines.mean(dim=0)) / ((lines - lines.mean(dim=0)).square().mean(dim=0) + 1e-6).sqrt()
    torch.testing.assert_close(found.scaled_line, scaled[given["group"]])
    held = nn.functional.gelu(network.held[0](features.middle))
    expected = network.energy(found.potential, held, found.scaled_line)
    torch.testing.assert_close(found.reading.logit, expected.logit)


def test_without_environment_no_support_set_is_read(network):
    given = batch()
    found = network({name: given[name] for name in ("enhancer", "promoter", "group")}, environment=False)
    assert (found.line, found.scaled_line) == (None, None)
    torch.testing.assert_close(found.reading.logit, found.potential)
    assert int(network.apart.steps) == 0


def test_what_is_between_the_backbone_and_e_is_twice_as_wide_as_e(network):
    assert network.held[0].out_features == network.environment.in_features == 2 * ENVIRONMENT
    assert network.environment.out_features == ENVIRONMENT
    assert network.invariant[0].out_features == network.potential.in_features == INVARIANT


def test_every_parameter_is_in_one_part(network):
    parts = network.parts()
    assert list(parts) == ["backbone", "interaction", "environment", "temperature"]
    held = [parameter for part in parts.values() for member in ([part] if isinstance(part, nn.Module) else part)
            for parameter in (member.parameters() if isinstance(member, nn.Module) else [member])]  # fmt: skip
    assert sorted(map(id, held)) == sorted(map(id, network.parameters()))
    assert [id(one) for one in parts["temperature"]] == [id(network.energy.t)]


@pytest.mark.parametrize("momentum", [0.98, 0.6])
def test_the_scale_follows_the_lines_of_the_steps(momentum):
    """Means over the first steps, then a running mean that keeps the share `momentum` of itself."""
    apart = Apart(2, momentum).double()
    assert Apart(2).momentum == 0.98
    mean, variance = torch.zeros(2).double(), torch.ones(2).double()
    for step, lines in enumerate(torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(0)).double(), start=1):
        share = max(1 / step, 1 - momentum)
        mean = (1 - share) * mean + share * lines.mean(dim=0)
        variance = (1 - share) * variance + share * (lines - mean).square().mean(dim=0)
        torch.testing.assert_close(apart.train()(lines), (lines - mean) / (variance + 1e-6).sqrt())
    assert int(apart.steps) == 6
    held = {name: one.clone() for name, one in apart.state_dict().items()}
    torch.testing.assert_close(apart.eval()(mean[None]), torch.zeros(1, 2).double())
    assert all(torch.equal(one, held[name]) for name, one in apart.state_dict().items())
