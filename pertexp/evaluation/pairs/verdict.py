"""What may be said of a model of pairs: against the best baseline, then against itself with less to look at."""

from pertexp.evaluation.claims import best_of, claim
from pertexp.evaluation.pairs.lineup import Lineup
from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.metrics.registry import METRICS

REMEDY = "pool lines and folds with -m data.split.line=...,... data.split.fold=0,1,..."


def verdict(scores: PairScores, lineup: Lineup) -> list[str]:
    """A sentence for each headline metric against the best rival, then for each masked row, then who is not counted."""
    scores.require(lineup.model)
    present = lineup.among(scores.models)
    said = [_against_the_best(scores, present, metric) for metric in scores.headline] if present.rivals else []
    if not present.rivals:
        said = [f"No baseline was scored beside {lineup.model}: nothing can be said about it."]
    said += [_sentence(scores, lineup.model, name, metric) for name in present.masked for metric in scores.headline]
    return said + [f"{name} is shown and not counted: {why}." for name, why in present.not_counted.items()]


def _against_the_best(scores: PairScores, lineup: Lineup, metric: str) -> str:
    means = {name: float(scores.summary(name, metric)["mean"]) for name in lineup.rivals}
    best = best_of(means, higher_is_better=METRICS[metric].higher_is_better)
    return _sentence(scores, lineup.model, best, metric)


def _sentence(scores: PairScores, model: str, other: str, metric: str) -> str:
    if scores.summary(model, metric)["n"] == 0 or scores.summary(other, metric)["n"] == 0:
        return f"{metric} is not applicable here: {METRICS[metric].missing}."
    gap, row = scores.difference(model, other, metric), METRICS[metric]
    return claim(model, other, metric, gap, higher_is_better=row.higher_is_better, remedy=REMEDY)
