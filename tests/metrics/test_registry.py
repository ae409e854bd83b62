"""Metrics of other packages are registered once, under a family of their own and with one meaning."""

from dataclasses import replace

import pytest

from pertexp.metrics.metric import Metric
from pertexp.metrics.registry import METRICS, OWN, register


@pytest.fixture(autouse=True)
def no_others_stay():
    yield
    for name in [name for name in METRICS if name.startswith("theirs/")]:
        del METRICS[name]


NEW = Metric("theirs/error", lambda view: view, 0.0, 1.0, "profile")


def test_a_metric_is_registered_once_and_stays():
    register([NEW])
    register([replace(NEW, function=lambda view: -view, level="detail")])
    assert METRICS["theirs/error"] is NEW
    assert "theirs/error" not in OWN
    register([METRICS["mse"]])


@pytest.mark.parametrize("other", [{"best": 1.0, "worst": 0.0}, {"worst": 2.0}, {"space": "ranking"}])
def test_another_meaning_is_refused(other):
    register([NEW])
    with pytest.raises(ValueError, match="there is a metric theirs/error already"):
        register([replace(NEW, **other)])
    with pytest.raises(ValueError, match="there is a metric mse already"):
        register([replace(METRICS["mse"], **other)])


def test_a_metric_without_family_is_refused():
    with pytest.raises(ValueError, match="name it <family>/error"):
        register([replace(NEW, name="error")])
    assert "error" not in METRICS
