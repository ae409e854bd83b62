"""Every term of PRISM moves what it is for, while the task goes on being learned.

Encoders of the two streams are trained on features that tell the label, the line, or both; with a term and without it,
from one start.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pertexp.config.errors import RequestError
from pertexp.metrics.dependence import excess_cross_correlation, linear_probe
from pertexp.models.prism.options import Contrast, PrismOptions, Prototype, Sparse, Term, TermOptions
from pertexp.models.prism.terms import TERMS, Seen, Sizes, terms_of

pytestmark = pytest.mark.medium

LINES, N = 4, 400
SIZES = Sizes(LINES, 12, 6, 64)
OPTIONS = {
    "correlation": Term(1.0),
    "invariance": Term(1.0),
    "contrastive": Contrast(1.0),
    "sparsity": Sparse(1.0),
    "prototype": Prototype(1.0),
    "mutual_information": Term(1.0),
}


def planted(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features `[N, 16]`: four tell the label, four the line, four both; label and line of every pair."""
    rng = np.random.default_rng(seed)
    line, label = rng.integers(0, LINES, N), rng.integers(0, 2, N)
    signal = rng.normal(size=(N, 16))
    signal[:, :4] += 1.5 * (2 * label[:, None] - 1)
    signal[:, 4:8] += 2.0 * np.eye(LINES)[line]
    signal[:, 8:12] += (2 * label[:, None] - 1) + 2.0 * np.eye(LINES)[line]
    return torch.from_numpy(signal).float(), torch.from_numpy(label).float(), torch.from_numpy(line)


def learned(name: str | None, weight: float, steps: int = 300) -> tuple[np.ndarray, np.ndarray, float]:
    """z_I and e of new pairs, and the accuracy of the label, after training with one term (or none)."""
    torch.manual_seed(0)
    invariant = nn.Sequential(nn.Linear(16, SIZES.invariant), nn.ReLU())
    own, head = nn.Linear(16, SIZES.environment), nn.Linear(SIZES.invariant + SIZES.environment, 1)
    term = None if name is None else TERMS[name](OPTIONS[name], SIZES)
    modules = nn.ModuleList([invariant, own, head, *([term] if term is not None else [])])
    optimizer = torch.optim.Adam(modules.parameters(), lr=5e-3)
    features, label, line = planted()
    for step in range(steps):
        rows = torch.from_numpy(np.random.default_rng(step).choice(N, 128, replace=False))
        z, e = invariant(features[rows]), own(features[rows])
        loss = nn.functional.binary_cross_entropy_with_logits(head(torch.cat([z, e], 1))[:, 0], label[rows])
        if term is not None:
            loss = loss + weight * term(Seen(z, e, line[rows], supports(e, line[rows])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features, label, _ = planted(seed=1)
    z, e = invariant(features), own(features)
    right = (head(torch.cat([z, e], 1))[:, 0] > 0) == (label > 0.5)
    return z.detach().numpy(), e.detach().numpy(), float(right.float().mean())


def supports(e: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    present = line.unique()
    return torch.stack([e[line == one].mean(0) for one in present]), present


def line_of_new_pairs() -> np.ndarray:
    return planted(seed=1)[2].numpy()


def spread_within_lines(e: np.ndarray) -> float:
    """Share of the variance of e that lies within lines."""
    line = line_of_new_pairs()
    within = np.mean([e[line == one].var(axis=0).sum() for one in range(LINES)])
    return float(within / e.var(axis=0).sum())


STEPS = {"invariance": 1000}  # a game of two takes longer
MEASURES: dict[str, tuple[float, float, Callable[[np.ndarray, np.ndarray], float]]] = {
    # weight, largest share of what it is without the term, what is measured
    "correlation": (2.0, 0.5, lambda z, e: excess_cross_correlation(z, e).excess),
    "mutual_information": (0.5, 0.5, lambda z, e: excess_cross_correlation(z, e).excess),
    "invariance": (1.0, 0.5, lambda z, e: linear_probe(z, line_of_new_pairs()).excess),  # noqa: ARG005
    "sparsity": (0.1, 0.7, lambda z, e: float((np.abs(z) > 0.05).mean())),  # noqa: ARG005
    "contrastive": (0.2, 0.6, lambda z, e: spread_within_lines(e)),  # noqa: ARG005
    "prototype": (0.5, 0.8, lambda z, e: float(np.mean(np.var(e, axis=0)))),  # noqa: ARG005
}


@pytest.mark.parametrize("name", list(MEASURES))
def test_a_term_moves_what_it_is_for_and_the_label_is_still_learned(name: str) -> None:
    weight, share, measure = MEASURES[name]
    steps = STEPS.get(name, 300)
    without, with_it = learned(None, 0.0, steps), learned(name, weight, steps)
    before, after = measure(*without[:2]), measure(*with_it[:2])
    assert after < share * before, (before, after)
    assert without[2] > 0.9
    assert with_it[2] > 0.85


def test_lines_are_told_by_e_better_with_the_contrast() -> None:
    plain, contrast = (linear_probe(learned(name, 0.2)[1], line_of_new_pairs()) for name in (None, "contrastive"))
    assert contrast.balanced_accuracy > plain.balanced_accuracy


def test_the_sum_of_a_collapsed_z_would_satisfy_the_adversary_which_the_label_probe_shows() -> None:
    z, _, accuracy = learned("invariance", 1.0)
    label = planted(seed=1)[1].numpy()
    assert linear_probe(z, label).balanced_accuracy > 0.8
    assert accuracy > 0.85


def test_an_adversary_sees_other_lines_in_its_queue_where_a_step_has_one() -> None:
    term = TERMS["invariance"](Term(1.0), SIZES)
    z = torch.randn(40, SIZES.invariant)
    first = term(Seen(z, z[:, :6], torch.zeros(40, dtype=torch.int64), None))
    second = term(Seen(z, z[:, :6], torch.ones(40, dtype=torch.int64), None))
    alone = nn.functional.cross_entropy(term.tell(z), torch.ones(40, dtype=torch.int64))
    held = nn.functional.cross_entropy(term.tell(z), torch.zeros(40, dtype=torch.int64))
    assert first.item() == pytest.approx(held.item(), rel=1e-4)
    assert second.item() == pytest.approx((alone.item() + held.item()) / 2, rel=1e-4)


@pytest.mark.parametrize("epoch", range(15))
def test_weights_ramp_to_their_caps_as_the_document_has_them(epoch: int) -> None:
    starts = {"correlation": 0.1, "invariance": 0.1, "contrastive": 0.05, "sparsity": 0.01, "prototype": 0.05}
    caps = {"correlation": 0.2, "invariance": 0.2, "contrastive": 0.1, "sparsity": 0.02, "prototype": 0.1}
    weights = {name: term.at(epoch) for name, term in TermOptions() if term.weight}
    assert weights == pytest.approx({name: min(starts[name] + 0.01 * epoch, caps[name]) for name in starts})


def test_a_weight_of_zero_leaves_a_term_out_whatever_its_ramp() -> None:
    assert Term(0.0, 0.01, 0.2).at(10) == 0.0
    options = PrismOptions(terms=TermOptions(correlation=Term(0.0, 0.01, 0.2)))
    assert set(terms_of(options, 3)) == {"invariance", "contrastive", "sparsity", "prototype"}


def test_a_weight_above_its_cap_stays_as_it_was_given() -> None:
    assert Term(0.5, 0.01, 0.2).at(3) == 0.5


@pytest.mark.parametrize("name", ["invariance", "contrastive"])
def test_terms_that_could_only_be_constant_are_refused(name: str) -> None:
    others = {one: Term() for one in ("invariance", "contrastive") if one != name}
    kinds = {"contrastive": Contrast()} if "contrastive" in others else others
    options = PrismOptions(terms=TermOptions(**kinds), queue=0)
    with pytest.raises(RequestError, match=rf"with one training line .*type model.terms.{name}.weight=0"):
        options.require_lines(1, 1)
    with pytest.raises(RequestError, match=rf"in batches of one line .*model.terms.{name}.weight=0"):
        options.require_lines(5, 1)
    options.require_lines(5, 2)
    PrismOptions(terms=TermOptions(**kinds), queue=8).require_lines(5, 1)


def test_an_environment_without_support_sets_is_refused() -> None:
    with pytest.raises(RequestError, match=r"data.support_size=0"):
        PrismOptions().require_support(0)
    PrismOptions().require_support(8)


@pytest.mark.parametrize("queue", [0, 1, 8])
@pytest.mark.parametrize("name", sorted(TERMS))
def test_a_last_batch_of_one_pair_is_learned_from_like_any_other(name, queue) -> None:
    """A line of 65 pairs in batches of 64 leaves one; a queue of one pair holds one."""
    torch.manual_seed(0)
    term = TERMS[name](OPTIONS[name], Sizes(LINES, 12, 6, queue))
    for step in range(3):
        z, e = torch.rand(1, 12, requires_grad=True), torch.rand(1, 6, requires_grad=True)
        line = torch.tensor([step])
        value = term(Seen(z, e, line, (e.detach(), line)))
        assert torch.isfinite(value)
        if value.requires_grad:
            value.backward()
            assert all(torch.isfinite(one.grad).all() for one in (z, e) if one.grad is not None)
