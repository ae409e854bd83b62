"""A plugin of pytest: write how long each test takes and whether it passes."""

import json
import os
from pathlib import Path

import pytest

TARGET = "MUTANTS_TESTS"


class Recorder:
    """Collects reports of all processes, and writes them at the end."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.seconds: dict[str, float] = {}
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the phases of a test; the worst outcome counts."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.outcome != "passed" or report.nodeid not in self.outcomes:
            self.outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        """Write a record of every test."""
        self.target.write_text(json.dumps({"seconds": self.seconds, "outcomes": self.outcomes}))


def pytest_configure(config: pytest.Config) -> None:
    """Record in the process that hears of every test."""
    if TARGET in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(os.environ[TARGET])))
