"""Losses of pairs against torch, scikit-learn and mpmath, and the scales of IMMAX against what they claim to be."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch.nn import functional

from pertexp.config.errors import DataError, RequestError
from pertexp.losses.interaction import BinaryCrossEntropy, Focal, Immax, hardest_split

LOSSES = {
    "fixed": lambda: Immax("fixed"),
    "lopsided": lambda: Immax("fixed", value=99.0),
    "prior": lambda: Immax("prior"),
    "difficulty": lambda: Immax("difficulty"),
    "bce": BinaryCrossEntropy,
    "classes": lambda: BinaryCrossEntropy("classes"),
    "focal": Focal,
    "weighted": lambda: Focal(alpha=0.25),
}


def batch(n: int = 200, positives: float = 0.2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are right on the whole, and their labels."""
    draw = torch.Generator().manual_seed(seed)
    label = (torch.rand(n, generator=draw) < positives).double()
    return torch.randn(n, generator=draw, dtype=torch.float64) + (2 * label - 1), label


def fitted(name: str, label: torch.Tensor) -> torch.nn.Module:
    loss = LOSSES[name]()
    loss.fit(label)
    return loss


def plain(logit, label) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logit, label)


def test_the_plain_ones_are_cross_entropy():
    logit, label = batch()
    for loss in (Immax("fixed"), BinaryCrossEntropy(), Focal(gamma=0.0)):
        torch.testing.assert_close(loss(logit, label), plain(logit, label), rtol=1e-14, atol=0)


def test_immax_of_a_balanced_prior_is_cross_entropy():
    logit, label = batch()
    loss = Immax("prior")
    loss.fit(np.array([0, 1, 1, 0]))
    torch.testing.assert_close(loss(logit, label), plain(logit, label), rtol=1e-6, atol=0)
    torch.testing.assert_close(loss(logit, label, torch.ones(len(label))), plain(logit, label), rtol=1e-6, atol=0)


def test_balanced_cross_entropy_is_that_of_scikit_learn():
    logit, label = batch()
    y, p = label.numpy(), torch.sigmoid(logit).numpy()
    weight = np.where(y == 1, len(y) / (2 * y.sum()), len(y) / (2 * (1 - y).sum()))
    expected = log_loss(y, p, sample_weight=weight)
    np.testing.assert_allclose(fitted("classes", label)(logit, label).item(), expected, rtol=1e-6)


def test_batches_of_balanced_cross_entropy_add_up():
    logit, label = batch()
    loss = fitted("classes", label)
    parts = [loss(logit[at : at + 20], label[at : at + 20]) for at in range(0, 200, 20)]
    torch.testing.assert_close(torch.stack(parts).mean(), loss(logit, label))


@pytest.mark.parametrize("alpha", [None, 0.25])
@mpmath.workdps(60)
def test_focal_is_its_closed_form(alpha):
    logits = [-50.0, -3.0, -0.1, 0.0, 2.5, 40.0]
    for y in (0.0, 1.0):
        for z in logits:
            p = 1 / (1 + mpmath.exp(-z)) if y else 1 / (1 + mpmath.exp(z))
            weight = 1 if alpha is None else (alpha if y else 1 - alpha)
            expected = -weight * (1 - p) ** mpmath.mpf(1.5) * mpmath.log(p)
            out = Focal(1.5, alpha)(torch.tensor([z], dtype=torch.float64), torch.tensor([y], dtype=torch.float64))
            np.testing.assert_allclose(out.item(), float(expected), rtol=1e-9)


def test_immax_is_its_closed_form():
    logit, label = batch(12)
    scale = {1.0: 1.5, 0.0: 0.5}
    terms = [
        mpmath.log(1 + mpmath.exp(-(2 * y - 1) * z / scale[y]))
        for z, y in zip(logit.tolist(), label.tolist(), strict=True)
    ]
    out = Immax("fixed", value=3.0)(logit, label)
    np.testing.assert_allclose(out.item(), float(mpmath.fsum(terms) / len(terms)), rtol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("label", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]], ids=["negatives", "positives", "both"])
def test_no_logit_or_class_is_too_much(name, label):
    loss = fitted(name, torch.tensor([0.0, 1.0]))
    logit = torch.tensor([1e4, 1e4, -1e4, 0.0], requires_grad=True)
    norm = torch.tensor([0.0, 0.0, 1e4, 1.0])
    for _ in range(100):
        value = loss(logit, torch.tensor(label, dtype=torch.float32), norm)
    value.backward()
    assert value.isfinite()
    assert logit.grad.isfinite().all()
    assert logit.grad.any()  # the pair at 0 at least, and no clip where pairs are far on the wrong side


@pytest.mark.parametrize("name", LOSSES)
def test_order_does_not_matter(name):
    logit, label = batch()
    shuffled = torch.randperm(len(label), generator=torch.Generator().manual_seed(1))
    norm = torch.rand(len(label), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    value = fitted(name, label)(logit, label, norm)
    torch.testing.assert_close(fitted(name, label)(logit[shuffled], label[shuffled], norm[shuffled]), value)


def test_the_prior_scales_minimise_the_complexity_of_the_bound():
    """√(Σ m r²/ρ²) over a grid of ρ₊ is least where the loss has its scale."""
    label = torch.tensor([1.0] * 10 + [0.0] * 90)
    loss = fitted("prior", label)
    loss(torch.zeros(100), label, torch.where(label > 0.5, 3.0, 0.7))
    grid = np.linspace(0.02, 1.98, 19601)
    complexity = 0.1 * 3.0**2 / grid**2 + 0.9 * 0.7**2 / (2 - grid) ** 2
    np.testing.assert_allclose(loss.scales()[1], grid[complexity.argmin()], atol=1e-4)


def test_the_majority_has_the_gentler_slope():
    label = torch.tensor([1.0] * 10 + [0.0] * 90)
    logit = torch.zeros(100, requires_grad=True)
    fitted("prior", label)(logit, label).backward()
    assert logit.grad[0].abs() > 1.9 * logit.grad[-1].abs()  # 9^(1/3) = 2.08


def test_the_running_norm_is_an_average_of_batches_and_rests_in_evaluation():
    loss = fitted("prior", torch.tensor([0.0, 1.0]))
    both = torch.tensor([0.0, 1.0])
    loss(torch.zeros(2), both, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(loss.size, torch.tensor([1.0, 2.0]))  # the first one sets it
    loss(torch.zeros(2), both, torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(loss.size, torch.tensor([1.1, 2.2]))
    loss(torch.zeros(2), torch.zeros(2), torch.tensor([1.1, 1.1]))
    torch.testing.assert_close(loss.size, torch.tensor([1.1, 2.2]))  # no positive, no news of them
    loss.eval()(torch.zeros(2), both, torch.tensor([9.0, 9.0]))
    torch.testing.assert_close(loss.size, torch.tensor([1.1, 2.2]))


def loss_at(scale: torch.Tensor, logit: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The loss as a function of ρ₊, written anew."""
    positive, negative = logit[label == 1] / scale, -logit[label == 0] / (2 - scale)
    return (torch.log1p(torch.exp(-positive)).sum() + torch.log1p(torch.exp(-negative)).sum()) / len(label)


def slope_at(scale: float, logit: torch.Tensor, label: torch.Tensor) -> float:
    at = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(loss_at(at, logit, label), at)[0].item()


def test_difficulty_rests_where_the_loss_is_stationary_in_the_scale():
    """A class of one pair in three, some of it on the wrong side: dL/dρ₊ = 0 there, at a local maximum."""
    noise, label = batch(400, positives=1 / 3)
    sign = 2 * label - 1
    logit = sign * 0.6 + 0.3 * (noise - sign)
    assert ((logit > 0) != (label > 0.5)).sum() > 4
    loss = fitted("difficulty", label).double()
    for _ in range(400):
        loss(logit, label)
    rest = loss.positive_scale.item()
    assert 0.1 < rest < 1.9
    assert abs(slope_at(rest, logit, label)) < 1e-10
    beside = [loss_at(loss.positive_scale + step, logit, label) for step in (-0.05, 0.05)]
    assert loss_at(loss.positive_scale, logit, label) > max(beside)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 1.9), shift=st.floats(-1.5, 1.5))
def test_the_hardest_split_lies_where_the_loss_rises(seed, scale, shift):
    logit, label = batch(30, positives=0.4, seed=seed)
    logit = logit + shift
    split = hardest_split(torch.where(label > 0.5, logit, -logit), label > 0.5, torch.tensor(scale)).item()
    if abs(split - scale) > 1e-5:
        assert np.sign(split - scale) == np.sign(slope_at(scale, logit, label))


def test_a_class_on_the_wrong_side_is_not_hidden():
    """Absolute values would find both classes equally far from a threshold and leave the scale at 1."""
    logit, label = torch.full((10,), -1.0), torch.tensor([1.0] * 5 + [0.0] * 5)
    loss = fitted("difficulty", label)
    loss(logit, label)
    np.testing.assert_allclose(loss.scales()[1], 0.9 * 1 + 0.1 * 0.02, rtol=1e-6)
    for _ in range(300):
        loss(logit, label)
    np.testing.assert_allclose(loss.scales(), [1.98, 0.02], rtol=1e-3)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_difficulty_learns_nothing_of_a_batch_of_one_class(label):
    loss = fitted("difficulty", torch.tensor([0.0, 1.0]))
    for side in (-1.0, 1.0):
        loss(torch.full((8,), side), torch.full((8,), label))
        assert loss.positive_scale == 1


def test_difficulty_rests_in_evaluation_and_its_scale_has_no_gradient():
    logit, label = batch()
    loss = fitted("difficulty", label).eval()
    loss(logit, label)
    assert loss.positive_scale == 1
    logit.requires_grad_()
    loss.train()(logit, label).backward()
    scale = loss.scales()[label.long()].double()
    sign = 2 * label - 1
    expected = -sign / scale * torch.sigmoid(-sign * logit.detach() / scale) / len(label)
    torch.testing.assert_close(logit.grad, expected)


def test_what_is_learned_travels_in_checkpoints():
    logit, label = batch()
    for name in ("prior", "difficulty", "classes"):
        loss, resumed = fitted(name, label), LOSSES[name]()
        loss(logit, label, logit.abs())
        resumed.load_state_dict(loss.state_dict())
        torch.testing.assert_close(resumed.eval()(logit, label), loss.eval()(logit, label), rtol=0, atol=0)


def test_who_balances():
    says = {name: make().balances for name, make in LOSSES.items()}
    assert [name for name, balances in says.items() if balances] == [
        "lopsided", "prior", "difficulty", "classes", "weighted",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Immax("priors"), r"loss\.rho=priors"),
        (lambda: Immax("fixed", value=0.0), r"loss\.value=0"),
        (lambda: Immax("prior", value=2.0), r"loss\.value=2.0 has no effect with loss\.rho=prior"),
        (lambda: Immax("prior", momentum=1.0), r"loss\.momentum=1"),
        (lambda: BinaryCrossEntropy("class"), r"loss\.balance=class"),
        (lambda: Focal(gamma=-1.0), r"loss\.gamma=-1"),
        (lambda: Focal(alpha=1.0), r"loss\.alpha=1"),
    ],
)
def test_bad_options_are_refused(make, found):
    with pytest.raises(RequestError, match=found):
        make()


@pytest.mark.parametrize(("label", "shown"), [([1.0, 1.0], "1:"), ([], "none:"), ([0, 1, 2], "0, 1, 2:")])
def test_training_labels_must_be_of_two_classes(label, shown):
    with pytest.raises(DataError, match=f"hold {shown}"):
        Immax("prior").fit(np.array(label))


@pytest.mark.parametrize("name", ["prior", "classes"])
def test_a_prior_is_never_guessed(name):
    with pytest.raises(RuntimeError, match=r"fit\(labels\)"):
        LOSSES[name]()(torch.zeros(2), torch.tensor([0.0, 1.0]))
