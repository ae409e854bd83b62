"""How far a model falls from what it was trained on to what it never saw, and what the choice of support is worth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pertexp.data.pairs.datamodule import PairData
from pertexp.data.pairs.design import PairDesign
from pertexp.evaluation.pairs.predictions import predicted
from pertexp.metrics.pairs import PAIRS, ScoredPairs
from pertexp.models.pair_predictor import PairPredictor

Predicted = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Side:
    """A model on the pairs of one role: the mean over lines of `auprc` and prevalence, and how many pairs."""

    auprc: float
    prevalence: float
    n: int


@dataclass(frozen=True)
class Generalisation:
    """AUPRC on pairs that were trained on, on validation and on test pairs; None where a role has no pair."""

    train: Side | None
    val: Side | None
    test: Side | None

    @property
    def gap(self) -> float:
        """AUPRC on training pairs minus that on test pairs; NaN where either is missing."""
        return _minus(self.train, self.test)

    @property
    def chance(self) -> float | None:
        """The gap of what knows nothing: prevalence of training minus test pairs; None where either is missing."""
        return None if self.train is None or self.test is None else self.train.prevalence - self.test.prevalence

    def document(self) -> dict[str, Any]:
        """Plain values: a side for each role, then the gaps."""
        sides = {role: None if side is None else vars(side) for role, side in vars(self).items()}
        return {
            **sides,
            "train_minus_val": _minus(self.train, self.val),
            "val_minus_test": _minus(self.val, self.test),
            "train_minus_test": self.gap,
            "train_minus_test_by_chance": self.chance,
        }


@dataclass(frozen=True)
class SupportDraws:
    """The model's mean over lines with other support sets: a row a draw: draw, n, auprc, auroc."""

    values: pd.DataFrame

    def document(self) -> dict[str, Any]:
        """By metric: mean, s.d., smallest, largest, and the values themselves."""
        found: dict[str, Any] = {"n_draws": len(self.values)}
        for metric in ("auprc", "auroc"):
            own = self.values[metric]
            sd = float(own.std(ddof=1)) if len(own) > 1 else np.nan
            found[metric] = {
                "mean": float(own.mean()), "sd": sd, "min": float(own.min()), "max": float(own.max()),
                "values": own.tolist(),
            }  # fmt: skip
        return found


def over_roles(
    model: PairPredictor, data: PairData, scored: dict[str, Predicted], name: str, n_train: int, seed: int
) -> Generalisation:
    """Score training pairs, at most `n_train` drawn with the seed, beside the validation and test pairs `scored`."""
    train = data.design.scored("train")
    if train.size > n_train:
        train = np.sort(np.random.default_rng(seed).choice(train, n_train, replace=False))
    known = {**scored, "train": predicted(model, data.loader("train", rows=train), name)}
    sides = {role: _side(data.design, *known[role]) if role in known else None for role in ("train", "val", "test")}
    return Generalisation(**sides)


def over_draws(model: PairPredictor, data: PairData, first: Predicted, name: str, n_draws: int) -> SupportDraws | None:
    """Score the test pairs with the support sets of further draws; None without support sets."""
    if not data.support_size:
        return None
    rows = []
    for draw in range(n_draws):
        found = first if draw == 0 else predicted(model, data.loader("test", draw), name)
        values = {metric: line_mean(data.design, *found, metric) for metric in ("auprc", "auroc")}
        rows.append({"draw": draw, "n": found[0].size, **values})
    return SupportDraws(pd.DataFrame(rows))


def line_mean(design: PairDesign, rows: np.ndarray, probability: np.ndarray, metric: str) -> float:
    """Mean over cell lines of a metric of the pairs `rows` `[n]`; lines where it does not apply are left out."""
    return _over_lines(
        design, rows, lambda own: float(PAIRS[metric].function(_view(design, rows, probability, own))[0])
    )


def _view(design: PairDesign, rows: np.ndarray, probability: np.ndarray, own: np.ndarray) -> ScoredPairs:
    return ScoredPairs(probability[own], design.pairs.label[rows[own]])


def _side(design: PairDesign, rows: np.ndarray, probability: np.ndarray) -> Side | None:
    if not rows.size:
        return None
    prevalence = _over_lines(design, rows, lambda own: float(design.pairs.label[rows[own]].mean()))
    return Side(line_mean(design, rows, probability, "auprc"), prevalence, int(rows.size))


def _over_lines(design: PairDesign, rows: np.ndarray, value: Callable[[np.ndarray], float]) -> float:
    """Mean of a value of the pairs of each line; NaN where no line has one."""
    line = design.pairs.line[rows]
    found = np.array([value(np.flatnonzero(line == number)) for number in np.unique(line)])
    defined = found[~np.isnan(found)]
    return float(defined.mean()) if defined.size else float("nan")


def _minus(one: Side | None, other: Side | None) -> float:
    return float("nan") if one is None or other is None else one.auprc - other.auprc
