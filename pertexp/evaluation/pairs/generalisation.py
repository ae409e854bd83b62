"""The gap between training and test scores, and the spread of the score over support sets."""

from collections.abc import Callable

import numpy as np

from pertexp.data.pairs.datamodule import PairData
from pertexp.data.pairs.design import PairDesign
from pertexp.evaluation.pairs.predictions import predicted
from pertexp.metrics.pairs import PAIRS, ScoredPairs
from pertexp.models.protocols import PairPredictor
from pertexp.runs.schema import Generalisation, RoleScore, Spread, SupportDraws

Predicted = tuple[np.ndarray, np.ndarray]


def over_roles(
    model: PairPredictor, data: PairData, scored: dict[str, Predicted], name: str, n_train: int, seed: int
) -> Generalisation:
    """Score training pairs, at most `n_train` drawn with the seed, and the validation and test pairs `scored`."""
    train = data.design.scored("train")
    if train.size > n_train:
        train = np.sort(np.random.default_rng(seed).choice(train, n_train, replace=False))
    known = {**scored, "train": predicted(model, data.loader("train", rows=train), name)}
    of_role = {role: _score(data.design, *known[role]) for role in ("train", "val", "test") if role in known}
    return Generalisation(**of_role)


def over_draws(model: PairPredictor, data: PairData, first: Predicted, name: str, n_draws: int) -> SupportDraws | None:
    """Score the test pairs with the support sets of further draws; None without support sets."""
    if not data.support_size:
        return None
    values: dict[str, list[float]] = {"auprc": [], "auroc": []}
    for draw in range(n_draws):
        found = first if draw == 0 else predicted(model, data.loader("test", draw), name)
        for metric, drawn in values.items():
            drawn.append(line_mean(data.design, *found, metric))
    return SupportDraws(n_draws, **{metric: Spread.of(np.array(drawn)) for metric, drawn in values.items()})


def line_mean(design: PairDesign, rows: np.ndarray, probability: np.ndarray, metric: str) -> float:
    """Average a metric of the pairs `rows` `[n]` over cell lines; lines where it does not apply are left out."""
    return _over_lines(
        design, rows, lambda own: float(PAIRS[metric].function(_view(design, rows, probability, own))[0])
    )


def _view(design: PairDesign, rows: np.ndarray, probability: np.ndarray, own: np.ndarray) -> ScoredPairs:
    return ScoredPairs(probability[own], design.pairs.label[rows[own]])


def _score(design: PairDesign, rows: np.ndarray, probability: np.ndarray) -> RoleScore | None:
    if not rows.size:
        return None
    prevalence = _over_lines(design, rows, lambda own: float(design.pairs.label[rows[own]].mean()))
    return RoleScore(line_mean(design, rows, probability, "auprc"), prevalence, int(rows.size))


def _over_lines(design: PairDesign, rows: np.ndarray, value: Callable[[np.ndarray], float]) -> float:
    """Return the mean of a value of the pairs of each line; NaN where no line has one."""
    line = design.pairs.line[rows]
    found = np.array([value(np.flatnonzero(line == number)) for number in np.unique(line)])
    defined = found[~np.isnan(found)]
    return float(defined.mean()) if defined.size else float("nan")
