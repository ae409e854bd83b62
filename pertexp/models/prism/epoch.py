"""Scores of an epoch, gathered batch by batch."""

import numpy as np
import torch
from torch import Tensor
from torch.distributed import all_gather_object, get_world_size, is_available, is_initialized

from pertexp.metrics.pairs import ScoredPairs, auprc, auroc, best_threshold, f1


class EpochScores:
    """AUPRC, AUROC and F1 of the pairs of an epoch, each the mean over cell lines that have both labels."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def add(self, logit: Tensor, label: Tensor, line: Tensor) -> None:
        """Logits, labels and numbers of lines `[n]` of a batch."""
        self._parts.append(torch.stack([logit.detach().float(), label, line.float()]).cpu().numpy())

    def take(self) -> dict[str, float]:
        """`auprc`, `auroc` and `f1` (at the threshold that makes it best) of all that was added, which is forgotten."""
        parts, self._parts = _of_all_processes(self._parts), []
        if not parts:
            return {}
        logit, label, line = np.concatenate(parts, axis=1)
        of_lines = [_scores(logit[line == number], label[line == number]) for number in np.unique(line)]
        known = [scores for scores in of_lines if scores]
        return {name: float(np.mean([scores[name] for scores in known])) for name in known[0]} if known else {}


def _scores(logit: np.ndarray, label: np.ndarray) -> dict[str, float]:
    threshold = best_threshold(logit, label)
    if threshold is None:
        return {}
    pairs = ScoredPairs(logit, label, logit >= threshold)
    return {name: float(metric(pairs)[0]) for name, metric in (("auprc", auprc), ("auroc", auroc), ("f1", f1))}


def _of_all_processes(parts: list[np.ndarray]) -> list[np.ndarray]:
    if not (is_available() and is_initialized()):
        return parts
    gathered: list[list[np.ndarray]] = [[] for _ in range(get_world_size())]
    all_gather_object(gathered, parts)
    return [part for of_process in gathered for part in of_process]
