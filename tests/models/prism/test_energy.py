"""The energy: its formula, what temperature and λ are at the start, and what resistance can and cannot rank."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pertexp.config.errors import RequestError
from pertexp.models.learned_scalar import LearnedScalar
from pertexp.models.prism.energy import Energy, EnergyOptions, Temperature

HELD, WIDTH = 6, 4


def energy(seed: int = 0, **options) -> Energy:
    torch.manual_seed(seed)
    return Energy(EnergyOptions(**options), HELD, WIDTH).double()


def inputs(n: int = 50, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    shapes = ((n,), (n, HELD), (n, WIDTH))
    return tuple(torch.from_numpy(rng.normal(size=shape)) for shape in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("resistance", ["line", "sample"])
def test_the_logit_is_the_formula(resistance: str) -> None:
    own = energy(resistance=resistance, lam=LearnedScalar("fixed", -0.25), temperature=Temperature("fixed", 1.7))
    potential, held, line = inputs()
    reading = own(potential, held, line)
    u, r = potential.numpy(), reading.resistance.detach().numpy()
    assert (r >= 0).all()
    assert np.ptp(r) > 0
    np.testing.assert_allclose(reading.logit.detach().numpy(), (u - r - 0.25 * u * r) / 1.7, rtol=1e-12)


def test_the_linear_form_is_its_formula() -> None:
    own = energy(form="linear", temperature=Temperature("fixed", 0.8))
    torch.nn.init.normal_(own.shift.weight)
    potential, held, line = inputs()
    turn, shift = own.turn.weight.detach().numpy()[0], own.shift.weight.detach().numpy()[0]
    u, z = potential.numpy(), line.numpy()
    expected = (u + u * (z @ turn) + z @ shift) / 0.8
    np.testing.assert_allclose(own(potential, held, line).logit.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("mode", ["fixed", "learned", "per_line"])
@pytest.mark.parametrize(
    ("value", "low", "high"), [(1.0, None, None), (1.0, 0.5, 2.0), (0.7, 0.5, 2.0), (3.0, None, None)]
)
def test_temperature_starts_at_its_value_in_every_mode(mode, value, low, high) -> None:
    own = energy(temperature=Temperature(mode, value, low, high))
    temperature = own(*inputs()).temperature
    torch.testing.assert_close(temperature, torch.full_like(temperature, value), rtol=1e-12, atol=0)


def test_softplus_of_zero_is_what_the_start_would_have_been() -> None:
    assert torch.nn.functional.softplus(torch.tensor(0.0)).item() == pytest.approx(0.693, abs=1e-3)
    assert Temperature().of(torch.tensor(0.0, dtype=torch.float64)).item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("t", [-1e4, -3.0, 3.0, 1e4])
def test_bounded_temperatures_stay_within_their_bounds(t: float) -> None:
    bounded = Temperature(low=0.5, high=2.0).of(torch.tensor(t))
    assert 0.5 <= bounded <= 2.0
    assert Temperature().of(torch.tensor(t)) >= 0


def test_per_line_temperatures_differ_between_lines_and_exist_for_any() -> None:
    own = energy(temperature=Temperature("per_line"))
    torch.nn.init.normal_(own.read_t.weight)
    temperature = own(*inputs()).temperature
    assert temperature.unique().numel() == 50
    assert (temperature > 0).all()


@pytest.mark.parametrize("resistance", ["line", "sample"])
def test_resistance_starts_near_the_softplus_of_zero(resistance) -> None:
    own = energy(resistance=resistance)
    assert own.resistance.out.bias.item() == 0
    assert own(*inputs(200)).resistance.mean().item() == pytest.approx(np.log(2), abs=0.2)


def test_what_is_fixed_is_no_parameter_and_what_is_learned_is_one() -> None:
    learned = {name for name, _ in energy().named_parameters()}
    fixed = {
        name for name, _ in energy(lam=LearnedScalar("fixed"), temperature=Temperature("fixed")).named_parameters()
    }
    assert learned - fixed == {"lam", "t"}
    assert energy(lam=LearnedScalar("learned", 0.01)).lam.item() == pytest.approx(0.01)


def test_before_it_is_active_there_is_no_resistance_and_no_interaction() -> None:
    own = energy(lam=LearnedScalar("learned", 5.0))
    potential, held, _ = inputs()
    torch.testing.assert_close(own(potential, held, None).logit, potential, rtol=1e-12, atol=1e-12)


def within_a_line(resistance: str, seed: int, lam: float, keep_order: bool = False) -> tuple[float, float]:
    """AUROC of U and of the logit among pairs of one line."""
    own = energy(seed, resistance=resistance, lam=LearnedScalar("fixed", lam), keep_order=keep_order)
    potential, held, line = inputs(200, seed)
    line = line[:1].expand_as(line)
    label = np.random.default_rng(seed).integers(0, 2, 200)
    logit = own(potential, held, line).logit.detach().numpy()
    return float(roc_auc_score(label, potential.numpy())), float(roc_auc_score(label, logit))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lam", [-0.2, 0.0, 0.5])
def test_a_resistance_of_the_line_alone_cannot_rank_within_a_line(seed: int, lam: float) -> None:
    potential, logit = within_a_line("line", seed, lam)
    assert logit == pytest.approx(potential, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_resistance_of_the_sample_ranks_anew(seed: int) -> None:
    potential, logit = within_a_line("sample", seed, 0.1)
    assert abs(logit - potential) > 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_a_strong_antagonist_turns_the_ranking_around_unless_order_is_kept(seed: int) -> None:
    potential, turned = within_a_line("line", seed, -5.0)
    assert turned == pytest.approx(1 - potential, abs=1e-12)
    potential, kept = within_a_line("line", seed, -5.0, keep_order=True)
    assert kept == pytest.approx(potential, abs=1e-12)


def test_keeping_order_changes_nothing_where_lambda_is_not_negative() -> None:
    one, other = (energy(lam=LearnedScalar("fixed", 0.4), keep_order=keep) for keep in (False, True))
    torch.testing.assert_close(one(*inputs()).logit, other(*inputs()).logit, rtol=1e-12, atol=0)


def test_the_penalty_pulls_t_back_to_its_start() -> None:
    own = energy(temperature=Temperature(l2=0.5))
    assert own.penalty(None).item() == 0
    own.t.data.fill_(2.0)
    own.penalty(None).backward()
    assert own.penalty(None).item() == pytest.approx(2.0)
    assert own.t.grad is not None
    assert own.t.grad.item() == pytest.approx(2.0)
    assert energy().penalty(None).item() == 0


def test_without_resistance_the_environment_is_not_looked_at() -> None:
    own = energy(resistance="none")
    assert not own.has_environment
    potential, held, line = inputs()
    torch.testing.assert_close(own(potential, held, line).logit, potential, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low": 0.5}, "has one bound"),
        ({"value": 3.0, "low": 0.5, "high": 2.0}, "expected a number between 0.5 and 2"),
        ({"value": 0.0}, "expected a number between 0 and inf"),
        ({"value": 0.5, "low": 0.5, "high": 2.0}, "expected a number between 0.5 and 2"),
        ({"value": 2.0, "low": 0.5, "high": 2.0}, "expected a number between 0.5 and 2"),
        ({"low": 1.0, "high": 1.0}, "low=1 and high=1: expected 0 or more, and more"),
        ({"low": -1e-9, "high": 2.0}, "low=-1e-09 and high=2: expected 0 or more, and more"),
        ({"l2": -1e-9}, "l2=-1e-09: expected 0 or more"),
        ({"l2": float("inf")}, "l2=inf: expected 0 or more"),
    ],
)
def test_temperatures_that_cannot_be_are_refused(options: dict, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Temperature(**options)


def test_temperatures_at_the_ends_of_what_can_be() -> None:
    assert Temperature(value=1e-9, low=0.0, high=1e-8, l2=0.0).of(torch.tensor(0.0)).item() == pytest.approx(1e-9)
