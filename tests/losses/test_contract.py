"""What a loss needs is what it reads, a loss that needs more than a model offers is refused, and the advice works."""

import re
from types import SimpleNamespace

import pytest
import torch
from command import TINY, command
from omegaconf import OmegaConf
from pair_runs import SMALL, made
from places import ROOT
from small_gears import gears
from small_nbglm import ADAMW, simulated
from small_prism import model as prism

from pertexp.config.errors import MismatchError
from pertexp.config.instantiate import build
from pertexp.experiment.loss_choices import losses_that_fit
from pertexp.losses import counts
from pertexp.losses.contract import (
    CountPrediction,
    Loss,
    PairPrediction,
    ProfilePrediction,
    offered_by,
    require_loss,
)
from pertexp.losses.gears import GearsLoss
from pertexp.losses.interaction import BinaryCrossEntropy, Focal, Immax
from pertexp.losses.squared_error import SquaredError
from pertexp.models.nbglm import NBGLM

CONF = ROOT / "conf"
FITTING = {
    CountPrediction: {"nb", "nb_deviance", "poisson_deviance", "mse", "mse_log1p", "mse_anscombe"},
    ProfilePrediction: {"gears", "mse"},
    PairPrediction: {"bce", "focal", "immax", "mse"},
}


def count_prediction(*, theta_fixed: bool = True) -> CountPrediction:
    generator = torch.Generator().manual_seed(0)
    log_mu = torch.randn(6, 5, generator=generator)
    counted = torch.poisson(log_mu.exp() * 2, generator=generator)
    cells = torch.tensor([1.0, 3.0, 2.0, 9.0, 1.0, 5.0])
    return CountPrediction(counted, log_mu, torch.rand(5, generator=generator) + 0.5, cells, theta_fixed)


def profile_prediction() -> ProfilePrediction:
    generator = torch.Generator().manual_seed(1)
    predicted, observed, control, log_variance = torch.randn(4, 6, 5, generator=generator)
    counted = torch.rand(6, 5, generator=generator) < 0.7
    condition = torch.tensor([3, 3, 1, 3, 1, 2])
    return ProfilePrediction(predicted, observed, control, condition, counted, log_variance)


def pair_prediction() -> PairPrediction:
    generator = torch.Generator().manual_seed(2)
    logit, norm = torch.randn(2, 7, generator=generator)
    return PairPrediction(logit, torch.tensor([1.0, 0, 0, 1, 0, 0, 1]), norm.abs())


CASES = [
    *((loss, count_prediction()) for loss in (counts.nb, counts.nb_deviance, counts.mse_log1p, SquaredError())),
    *((GearsLoss(uncertainty=kind), profile_prediction()) for kind in ("none", "ranking", "gaussian")),
    (GearsLoss(genes="all"), profile_prediction()),
    (SquaredError(), profile_prediction()),
    *((loss, pair_prediction()) for loss in (BinaryCrossEntropy("classes"), Focal(), SquaredError())),
    *((Immax(rho), pair_prediction()) for rho in ("fixed", "prior", "difficulty")),
]


@pytest.mark.parametrize(("loss", "given"), CASES, ids=lambda case: getattr(case, "name", type(case).__name__))
def test_a_loss_reads_what_it_needs_and_nothing_else(loss, given):
    loss.fit(torch.tensor([1.0, 0, 0]))
    assert loss.needs <= offered_by(type(given))
    read = {name: getattr(given, name) for name in loss.needs}
    assert loss.batch_loss(SimpleNamespace(**read)).shape == ()
    for left_out in loss.needs:
        fewer = {name: value for name, value in read.items() if name != left_out}
        with pytest.raises(AttributeError, match=left_out):
            loss.batch_loss(SimpleNamespace(**fewer))


@pytest.mark.parametrize("prediction", FITTING, ids=lambda kind: kind.__name__)
def test_which_choices_fit_which_prediction(prediction):
    offered, names = offered_by(prediction), {path.stem for path in (CONF / "loss").glob("*.yaml")}
    assert set(losses_that_fit(offered, [CONF])) == FITTING[prediction]
    for name in names:
        loss = build(OmegaConf.load(CONF / "loss" / f"{name}.yaml"), "loss")
        assert loss.name == name
        if name in FITTING[prediction]:
            require_loss(loss, offered, "mine")
        else:
            with pytest.raises(MismatchError, match=rf"^loss={name} needs .*, and model=mine hands over .*observed"):
                require_loss(loss, offered, "mine")


def test_only_what_is_missing_is_named():
    with pytest.raises(MismatchError, match=r"loss=gears needs condition, control, counted, and model=mine hands over"):
        require_loss(GearsLoss(), offered_by(CountPrediction), "mine")
    with pytest.raises(MismatchError, match=r"the loss MSELoss does not state what it needs, as a pertexp\."):
        require_loss(torch.nn.MSELoss(), offered_by(CountPrediction), "mine")


class AbsoluteError(Loss):
    """A loss from outside the package."""

    name, needs = "absolute", frozenset({"predicted", "observed"})

    def batch_loss(self, given):
        return (given.predicted - given.observed).abs().mean()


def test_choices_of_another_tree_are_found_and_those_without_a_value_are_not(tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "absolute.yaml").write_text(f"_target_: {__name__}.AbsoluteError\n")
    (tmp_path / "loss" / "open.yaml").write_text("_target_: pertexp.losses.gears.GearsLoss\ngamma: ???\n")
    found = losses_that_fit(offered_by(ProfilePrediction), [CONF, tmp_path])
    assert set(found) == FITTING[ProfilePrediction] | {"absolute"}


# the advice


def nbglm(loss):
    return NBGLM.from_data(simulated(), loss, ADAMW)


def of_pairs(loss):
    return prism(made(*SMALL, "data.lines_per_step=2", "data.batch_size=16"), loss)


@pytest.mark.parametrize(
    ("words", "build_model", "fitting"),
    [
        (("loss=gears", *TINY), nbglm, FITTING[CountPrediction]),
        (("model=gears", "loss=nb", "model.hidden_size=8", *TINY), lambda loss: gears(None, loss),
         FITTING[ProfilePrediction]),
        (("model=prism", "loss=nb", *SMALL, "data.lines_per_step=2"), of_pairs, FITTING[PairPrediction]),
    ],
    ids=["nbglm", "gears", "prism"],
)  # fmt: skip
def test_a_refused_loss_names_choices_that_the_model_takes(words, build_model, fitting):
    refused = command(*words, "print_config=false")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    advised = re.findall(r"loss=(\w+)", refused.err.rpartition(": type one of ")[2])
    assert set(advised) == fitting
    for name in advised:
        build_model(build(OmegaConf.load(CONF / "loss" / f"{name}.yaml"), "loss"))


# squared error


def test_the_squared_error_of_counts_is_per_cell():
    given, loss = count_prediction(), SquaredError()
    n = given.cells.double().numpy()[:, None]
    error = given.counts.double().numpy() / n - given.log_mu.double().exp().numpy() / n
    assert float(loss.batch_loss(given)) == pytest.approx((n * error**2).sum() / (n.sum() * 5), rel=1e-6)


def test_the_squared_error_of_counts_has_the_bits_of_its_formula():
    """(y − μ)²/n over rows and genes, added up and divided by cells and genes: value and gradient."""
    given = count_prediction()
    own, reference = (given.log_mu.clone().requires_grad_() for _ in range(2))
    value = SquaredError().batch_loss(CountPrediction(given.counts, own, given.theta, given.cells))
    elementwise = (given.counts - reference.exp()).square() / given.cells[:, None]
    expected = elementwise.sum() / (given.cells.sum() * elementwise.shape[1])
    assert torch.equal(value, expected)
    assert torch.equal(*(torch.autograd.grad(*each)[0] for each in ((value, own), (expected, reference))))


def test_the_squared_error_of_identical_cells_is_that_of_their_sum():
    given = count_prediction()
    ones, n = torch.ones(6), torch.full((6,), 7.0)
    single = CountPrediction(given.counts, given.log_mu, given.theta, ones)
    summed = CountPrediction(7 * given.counts, given.log_mu + n.log()[:, None], given.theta, n)
    torch.testing.assert_close(SquaredError().batch_loss(single), SquaredError().batch_loss(summed))


def test_the_squared_error_of_profiles_and_of_probabilities_is_a_plain_mean():
    cells, pairs, loss = profile_prediction(), pair_prediction(), SquaredError()
    expected = ((cells.predicted - cells.observed).double() ** 2).mean()
    assert float(loss.batch_loss(cells)) == pytest.approx(float(expected), rel=1e-6)
    brier = ((1 / (1 + (-pairs.logit.double()).exp()) - pairs.label) ** 2).mean()
    assert float(loss.batch_loss(pairs)) == pytest.approx(float(brier), rel=1e-6)


def test_a_count_loss_is_a_mean_over_cells_without_terms_of_theta_alone_where_theta_is_fixed():
    for theta_fixed, compute in ((True, counts.nb.at_fixed_theta()), (False, counts.nb)):
        given = count_prediction(theta_fixed=theta_fixed)
        values = compute(given.counts, given.log_mu, given.theta, given.cells).double()
        assert float(counts.nb.batch_loss(given)) == pytest.approx(float(values.sum() / (21 * 5)), rel=1e-6)


def test_a_dispersion_is_learned_unless_said_otherwise():
    ones = torch.ones(1)
    assert CountPrediction(ones, ones, ones, ones).theta_fixed is False
