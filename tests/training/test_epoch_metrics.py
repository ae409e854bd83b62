"""Metrics of an epoch: their values, what they forget and leave out, and the same over processes."""

import numpy as np
import pandas as pd
import pytest
import torch
from command import command
from prism_words import PRISM as SMALL_PRISM
from processes import in_processes, values_of_epochs
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from pertexp.metrics.pairs import ScoredPairs, best_threshold, f1
from pertexp.models.prism import PRISM, module
from pertexp.training.epoch_metrics import PairEpochMetrics, log_epoch

NAMES = ("auprc", "auroc", "f1")
CASES = {
    "without ties": lambda rng: rng.normal(size=60),
    "ties": lambda rng: rng.integers(-2, 3, 60) / 2.0,
    "all tied": lambda _: np.zeros(60),
    "logits whose sigmoid is 0 or 1": lambda rng: np.where(rng.random(60) < 0.5, 1, -1) * (40 + rng.integers(0, 9, 60)),
    "probabilities": lambda rng: rng.random(60),
}  # fmt: skip


def pairs(case: str) -> tuple[Tensor, Tensor, Tensor]:
    """Logit, label and line of 60 pairs in three lines: 0 and 7 of both labels, 2 of one."""
    rng = np.random.default_rng(3)
    logit, label, line = CASES[case](rng), rng.integers(0, 2, 60), rng.permutation(np.repeat([0, 2, 7], (25, 10, 25)))
    label[line == 2] = 1
    return torch.from_numpy(logit).float(), torch.from_numpy(label), torch.from_numpy(line)


def expected(logit: Tensor, label: Tensor, line: Tensor) -> dict[str, float]:
    """By scikit-learn, and the F1 of the project's threshold, in float64; mean over lines with both labels."""
    values = []
    for number in line.unique():
        p, y = (one[line == number].double().numpy() for one in (logit, label))
        if len(np.unique(y)) == 1:
            continue
        best = f1(ScoredPairs(p, y, p >= best_threshold(p, y)))[0]
        values.append((average_precision_score(y, p), roc_auc_score(y, p), best))
    return dict(zip(NAMES, np.mean(values, axis=0).tolist(), strict=True))


def filled(logit: Tensor, label: Tensor, line: Tensor, *cuts: int) -> PairEpochMetrics:
    metrics = PairEpochMetrics()
    for part in zip(*(one.tensor_split(cuts) for one in (logit, label, line)), strict=True):
        metrics.update(*part)
    return metrics


@pytest.mark.parametrize("case", CASES)
def test_values_are_means_over_the_lines_with_both_labels(case):
    found = filled(*pairs(case), 7, 20, 41).compute()
    assert found == pytest.approx(expected(*pairs(case)), abs=1e-6)


def test_an_epoch_is_forgotten_by_the_next():
    metrics = filled(*pairs("ties"))
    metrics.compute()
    metrics.reset()
    metrics.update(*pairs("probabilities"))
    assert metrics.compute() == filled(*pairs("probabilities")).compute()


@pytest.mark.parametrize("label", [0, 1])
def test_lines_of_one_label_have_no_value(label):
    logit, _, line = pairs("without ties")
    assert filled(logit, torch.full_like(line, label), line).compute() == {}


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_an_epoch_without_pairs_has_no_value():
    assert PairEpochMetrics().compute() == {}


def test_nothing_enters_the_weights():
    metrics = filled(*pairs("ties"))
    assert metrics.state_dict() == {}
    assert list(metrics.buffers()) == []


@pytest.mark.medium
def test_two_processes_compute_what_one_does(tmp_path):
    """Also where one of them has seen no batch, or none has."""
    everything = pairs("ties")
    first, second, third = zip(*(one.tensor_split([11, 45]) for one in everything), strict=True)
    epochs = [[first, third], [everything], []], [[second], [], []]
    whole = expected(*everything)
    for found in in_processes(tmp_path, values_of_epochs, epochs):
        assert found == [pytest.approx(whole, abs=1e-6), pytest.approx(whole, abs=1e-6), {}]


@pytest.mark.medium
def test_a_run_logs_the_values_of_every_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    seen: dict[str, list[dict[str, float]]] = {"train": [], "val": []}

    def spy(own: PRISM, role: str, metrics: PairEpochMetrics) -> None:
        states = [torch.cat(state) for state in (metrics.logit, metrics.label, metrics.line)]
        seen[role].append({**expected(*states), "n": len(states[0])})
        log_epoch(own, role, metrics)

    monkeypatch.setattr(module, "log_epoch", spy)
    done = command(*SMALL_PRISM, "trainer.max_epochs=3")
    assert (done.code, done.err) == (0, "")
    logged = pd.read_csv(done.folder / "logs" / "metrics.csv")
    for role, epochs in seen.items():
        assert len({one.pop("n") for one in epochs}) == 1  # no pair of an earlier epoch
        for name in NAMES:
            values = logged[f"{role}/{name}"].dropna().tolist()
            assert values == pytest.approx([one[name] for one in epochs], abs=1e-6)
            assert len(set(values)) > 1
    weights = torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not [name for name in weights if "metrics" in name]
