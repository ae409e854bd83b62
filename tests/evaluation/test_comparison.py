"""Which baseline is the best, and what a paired difference shows: at the ends of every rule."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from pertexp.config.errors import RequestError
from pertexp.evaluation.comparison import FEWEST, Difference, best_of, outcome_of, ties, verdict
from pertexp.evaluation.roles import RowRoles

NAN = math.nan


@pytest.mark.parametrize(
    ("mean", "low", "high", "n", "higher", "lower"),
    [
        (0.3, 0.1, 0.5, FEWEST, "better", "worse"),
        (-0.3, -0.5, -0.1, FEWEST, "worse", "better"),
        (0.3, 0.0, 0.5, 40, "not different", "not different"),
        (-0.3, -0.5, 0.0, 40, "not different", "not different"),
        (0.3, -0.1, 0.5, 40, "not different", "not different"),
        (0.3, 0.1, 0.5, FEWEST - 1, "too few units", "too few units"),
        (0.3, NAN, NAN, FEWEST, "mostly undefined", "mostly undefined"),
        (NAN, NAN, NAN, 0, "no value", "no value"),
    ],
)
def test_what_a_difference_shows(mean, low, high, n, higher, lower):
    gap = Difference(mean, low, high, n, "units")
    assert outcome_of(gap, higher_is_better=True) == higher
    assert outcome_of(gap, higher_is_better=False) == lower


def test_the_fewest_units_that_can_show_something():
    assert FEWEST == 6
    assert 2.0 ** (1 - FEWEST) < 0.05 < 2.0 ** (2 - FEWEST)


@pytest.mark.parametrize(
    ("means", "highest", "lowest"),
    [
        ({"a": 0.2, "b": 0.5, "c": 0.1}, "b", "c"),
        ({"a": 0.5, "b": 0.5 + 1e-12, "c": 0.9, "d": 0.9 + 1e-12}, "c", "a"),
        ({"a": NAN, "b": -1.0, "c": -2.0}, "b", "c"),
        ({"a": NAN, "b": NAN}, "a", "a"),
        ({"a": 1.0, "b": 1.0 + 1e-8}, "b", "a"),
    ],
)
def test_the_best_mean_is_the_first_of_those_that_tie(means, highest, lowest):
    assert best_of(means, higher_is_better=True) == highest
    assert best_of(means, higher_is_better=False) == lowest


def test_means_tie_by_rounding_alone():
    assert ties(1e6, 1e6 * (1 + 1e-10))
    assert not ties(1e6, 1e6 * (1 + 1e-8))
    assert ties(0.0, 1e-13)
    assert not ties(0.0, 1e-11)


MEANS = {"m": 0.6, "m (blind)": 0.4, "a": 0.3, "b": 0.5}


class Scores(SimpleNamespace):
    """Rows with these means on every metric, whose differences have an interval of ± 0.15."""

    models = tuple(MEANS)
    metrics = ("pearson_delta", "mse")
    headline = ("pearson_delta",)
    untrusted = ("mse",)
    remedy = "type data.split=more"
    n = 9

    def summary(self, model, metric):  # noqa: ARG002
        return pd.Series({"mean": MEANS[model], "n": self.n})

    def difference(self, model, other, metric):  # noqa: ARG002
        gap = MEANS[model] - MEANS[other]
        return Difference(gap, gap - 0.15, gap + 0.15, self.n, f"{self.n} perturbations")


ROLES = RowRoles("m", ("m (blind)",), ("a", "b"))


def test_a_verdict_is_about_the_best_baseline_and_then_about_what_is_masked():
    found = verdict(Scores(), ROLES, ("pearson_delta", "mse"))
    assert [(one.reference, one.metric, one.outcome, one.basis, one.trusted) for one in found] == [
        ("b", "pearson_delta", "not different", "best baseline", True),
        ("a", "mse", "worse", "best baseline", False),
        ("m (blind)", "pearson_delta", "better", "masked input", True),
        ("m (blind)", "mse", "worse", "masked input", False),
    ]
    first = found[0]
    assert (first.model, first.n, first.over, first.remedy) == ("m", 9, "9 perturbations", "")
    assert (first.difference, first.low, first.high) == pytest.approx((0.1, -0.05, 0.25))
    assert [one.metric for one in verdict(Scores(), ROLES)] == ["pearson_delta"] * 2


def test_too_few_units_come_with_a_remedy_and_none_at_all_do_not_apply():
    few = verdict(Scores(n=5), ROLES)[0]
    assert (few.outcome, few.remedy) == ("too few units", "type data.split=more")
    none = verdict(Scores(n=0), ROLES)[0]
    assert (none.outcome, none.n, none.remedy, math.isnan(none.difference)) == ("not applicable", 0, "", True)


def test_without_a_baseline_there_is_no_verdict_on_one():
    assert verdict(Scores(), RowRoles("m")) == []
    absent = RowRoles("m", (), ("b", "elsewhere"))
    assert [one.reference for one in verdict(Scores(), absent)] == ["b"]


@pytest.mark.parametrize(("roles", "metrics"), [(RowRoles("n"), None), (ROLES, ("pearson_delta", "msee"))])
def test_a_model_or_metric_that_was_not_scored_is_refused(roles, metrics):
    with pytest.raises(RequestError, match="was not scored; "):
        verdict(Scores(), roles, metrics)
