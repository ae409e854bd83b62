"""A plugin of pytest: write how long each test takes and whether it passes."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TARGET = "MUTANTS_TESTS"
SECONDS = "seconds of the processors"


class Clock:
    """Notes in each report what the test took of the processors, which does not hang on what else they do."""

    def __init__(self) -> None:
        self.before = self._now()

    @staticmethod
    def _now() -> float:
        return sum(os.times()[:4])  # of this process and its children

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self) -> "Iterator[None]":
        """Add the seconds since the report before."""
        outcome = yield
        now = self._now()
        outcome.get_result().user_properties.append((SECONDS, now - self.before))  # type: ignore[attr-defined]
        self.before = now


class Recorder:
    """Collects reports of all processes, and writes them at the end."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.seconds: dict[str, float] = {}
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up what the phases of a test took; the worst outcome counts."""
        taken = dict(report.user_properties)
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + float(str(taken.get(SECONDS, 0.0)))
        if report.outcome != "passed" or report.nodeid not in self.outcomes:
            self.outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        """Write a record of every test."""
        self.target.write_text(json.dumps({"seconds": self.seconds, "outcomes": self.outcomes}))


def pytest_configure(config: pytest.Config) -> None:
    """Measure wherever tests run, and record in the process that hears of all of them."""
    config.pluginmanager.register(Clock())
    if TARGET in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(os.environ[TARGET])))
