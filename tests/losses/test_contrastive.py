"""The contrast of lines against a double loop, the trap of a batch with one line, and the queue that mends it."""

import math

import pytest
import torch

from pertexp.losses.contrastive import Queue, has_negatives, line_contrast


def batch(n: int = 12, lines: int = 3, width: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=draw, dtype=torch.float64), torch.arange(n) % lines


def by_hand(e, line, temperature, queue=None) -> float:
    """The document's formula, a loop over anchors and a loop over others."""
    anchors = [(row / row.norm(), int(c)) for row, c in zip(e, line, strict=True)]
    others = [] if queue is None else [(row / row.norm(), int(c)) for row, c in zip(*queue, strict=True)]
    terms = []
    for i, (own, c) in enumerate(anchors):
        near = everything = 0.0
        for j, (key, other) in enumerate(anchors + others):
            if j != i:
                weight = math.exp(float(own @ key) / temperature)
                everything += weight
                near += weight if other == c else 0.0
        if near and near != everything:
            terms.append(-math.log(near / everything))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_it_is_the_formula(temperature):
    e, line = batch()
    torch.testing.assert_close(line_contrast(e, line, temperature=temperature).item(), by_hand(e, line, temperature))


def test_it_is_the_formula_with_a_queue():
    e, line = batch()
    queue = batch(7, lines=4, seed=1)
    torch.testing.assert_close(line_contrast(e, line, queue).item(), by_hand(e, line, 0.1, queue))


def test_an_anchor_without_a_positive_is_left_out():
    e, _ = batch(5)
    line = torch.tensor([0, 0, 1, 1, 2])
    e.requires_grad_()
    value = line_contrast(e, line)
    value.backward()
    torch.testing.assert_close(value.item(), by_hand(e.detach(), line, 0.1))
    assert e.grad.isfinite().all()
    assert e.grad[4].any()  # a negative of the others all the same


def test_order_and_scale_do_not_matter():
    e, line = batch()
    value = line_contrast(e, line)
    shuffled = torch.randperm(len(line), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(line_contrast(e[shuffled], line[shuffled]), value)
    torch.testing.assert_close(line_contrast(e * torch.linspace(0.1, 50, len(line))[:, None], line), value)
    torch.testing.assert_close(line_contrast(e, 7 - line), value)  # names of lines


def test_one_line_alone_is_constant():
    """The trap: every other sample is a positive, and log 1 = 0 whatever the features."""
    for seed in range(3):
        e, _ = batch(seed=seed)
        value = line_contrast(e.requires_grad_(), torch.zeros(len(e), dtype=torch.int64))
        assert value == 0
        assert not value.requires_grad
    assert not has_negatives(torch.zeros(12, dtype=torch.int64))


def test_a_queue_of_other_lines_gives_the_same_batch_a_gradient():
    e, _ = batch()
    line = torch.zeros(12, dtype=torch.int64)
    queue_e, queue_line = batch(6, seed=1)
    e.requires_grad_()
    queue_e.requires_grad_()
    assert has_negatives(line, queue_line)
    line_contrast(e, line, (queue_e, queue_line)).backward()
    assert e.grad.any()
    assert queue_e.grad is None  # a constant


@pytest.mark.parametrize(
    ("line", "queue", "expected"),
    [
        ([0, 0, 1, 1], None, True),
        ([0, 1, 2, 3], None, False),  # no positives
        ([0, 0, 0], None, False),
        ([0, 0, 0], [0, 0], False),
        ([0, 0, 0], [1], True),
        ([0], [0, 1], True),
        ([0], [1, 1], False),
        ([], None, False),
    ],
)
def test_who_has_negatives(line, queue, expected):
    line = torch.tensor(line, dtype=torch.int64)
    queue = None if queue is None else torch.tensor(queue)
    assert has_negatives(line, queue) is expected
    rows = None if queue is None else (torch.randn(len(queue), 4), queue)
    assert line_contrast(torch.randn(len(line), 4, requires_grad=True), line, rows).requires_grad is expected


def test_the_nearest_is_of_the_own_line_though_lines_may_fall_apart():
    """Sums inside the logarithm: one near positive is enough for an anchor, and not all need be near."""
    e, line = batch(60)
    e = e.clone().requires_grad_()
    optimizer = torch.optim.Adam([e], lr=0.05)
    before = line_contrast(e, line).item()
    for _ in range(100):
        optimizer.zero_grad()
        value = line_contrast(e, line)
        value.backward()
        optimizer.step()
    assert value < 0.01 < before
    unit = torch.nn.functional.normalize(e.detach(), dim=1)
    similarity = unit @ unit.T
    same = line[:, None] == line
    nearest = (similarity - 9 * torch.eye(60)).masked_fill(~same, -9).amax(dim=1)
    assert (nearest > similarity.masked_fill(same, -9).amax(dim=1)).all()
    assert similarity[same].min() < similarity[~same].max()


def test_zero_features_have_a_finite_gradient():
    e, line = batch()
    e[0] = 0
    line_contrast(e.requires_grad_(), line).backward()
    assert e.grad.isfinite().all()


def test_a_queue_holds_the_last_samples():
    queue = Queue(5, 2)
    assert queue.entries()[0].shape == (0, 2)
    kept: list[int] = []
    for start, n in ((0, 2), (2, 2), (4, 3), (7, 1), (8, 12), (20, 0), (20, 5)):
        numbers = torch.arange(start, start + n)
        queue.push(torch.stack([numbers, -numbers], dim=1).float().requires_grad_(), numbers)
        kept = (kept + numbers.tolist())[-5:]
        e, line = queue.entries()
        assert sorted(line.tolist()) == kept
        torch.testing.assert_close(e, torch.stack([line, -line], dim=1).float())
        assert not e.requires_grad


def test_pushing_after_the_loss_leaves_its_gradient_alone():
    queue = Queue(4, 3)
    queue.push(torch.randn(4, 3), torch.ones(4, dtype=torch.int64))
    e, line = torch.randn(4, 3, requires_grad=True), torch.zeros(4, dtype=torch.int64)
    value = line_contrast(e, line, queue.entries())
    queue.push(e, line)
    value.backward()
    assert e.grad.any()


def test_a_queue_travels_in_checkpoints():
    queue, resumed = Queue(4, 3), Queue(4, 3)
    queue.push(torch.randn(6, 3), torch.arange(6))
    resumed.load_state_dict(queue.state_dict())
    for each in (queue, resumed):
        each.push(torch.ones(1, 3), torch.tensor([9]))
    for left, right in zip(queue.entries(), resumed.entries(), strict=True):
        assert torch.equal(left, right)
    assert sorted(resumed.entries()[1].tolist()) == [3, 4, 5, 9]
