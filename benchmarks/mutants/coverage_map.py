"""Which tests run which lines: found once for each state of the code, and kept in `.cache/mutants`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from coverage import CoverageData

from benchmarks.mutants.copies import copy, environment, fingerprint
from benchmarks.mutants.recorder import TARGET

CACHE = Path(".cache") / "mutants"
SETTINGS = "[run]\nsource = pertexp\nrelative_files = true\n"


class FailingTestsError(Exception):
    """Tests fail without any mutation."""


class CoverageMap:
    """The tests that pass, how long each takes, and the lines that each runs.

    Attributes
    ----------
    seconds
        Of each test.
    """

    def __init__(self, folder: Path) -> None:
        recorded = json.loads((folder / "tests.json").read_text())
        passed = {name for name, outcome in recorded["outcomes"].items() if outcome == "passed"}
        self.seconds: dict[str, float] = {name: recorded["seconds"][name] for name in sorted(passed)}
        self._data = CoverageData(str(folder / "coverage"))
        self._data.read()
        self._lines: dict[str, dict[int, dict[str, set[str]]]] = {}

    def running(self, path: str, first: int, last: int) -> set[str]:
        """Name the tests that run a line of this range."""
        return self._named(path, first, last, ("run", "setup", "teardown"))

    def files_setting_up(self, path: str, first: int, last: int) -> set[str]:
        """Name the test files with a fixture that runs a line of this range, perhaps for many of their tests."""
        return {name.split("::")[0] for name in self._named(path, first, last, ("setup",))}

    def of_file(self, test_file: str) -> set[str]:
        """Name all tests of a file."""
        return {name for name in self.seconds if name.split("::")[0] == test_file}

    def _named(self, path: str, first: int, last: int, phases: tuple[str, ...]) -> set[str]:
        of_path = self._lines.setdefault(path, {}) or self._read(path)
        lines = [of_path.get(line, {}) for line in range(first, last + 1)]
        return {test for line in lines for phase in phases for test in line.get(phase, ()) if test in self.seconds}

    def _read(self, path: str) -> dict[int, dict[str, set[str]]]:
        for line, contexts in self._data.contexts_by_lineno(path).items():
            found: dict[str, set[str]] = defaultdict(set)
            for context in filter(None, contexts):
                test, phase = context.rsplit("|", 1)
                found[phase].add(test)
            self._lines[path][line] = found
        return self._lines[path]


def coverage_map(root: Path) -> CoverageMap:
    """Return the map of this state of the code; make it where there is none.

    Raises
    ------
    FailingTestsError
        Where a test fails as the code is now.
    """
    folder = root / CACHE / fingerprint(root)
    if not (folder / "tests.json").exists():
        with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
            _record(copy(root, Path(temporary)), folder)
    return CoverageMap(folder)


def _record(place: Path, folder: Path) -> None:
    (place / ".coveragerc").write_text(SETTINGS)
    words = ["-m", "pytest", "-n", "2", "--dist", "worksteal", "-m", "not slow", "-p", "benchmarks.mutants.recorder",
             "--cov", "--cov-context=test", "--cov-report=", "--cov-config=.coveragerc"]  # fmt: skip
    variables = {**environment(place), TARGET: str(place / "tests.json"), "COVERAGE_FILE": str(place / "coverage")}
    done = subprocess.run(
        [sys.executable, *words], cwd=place, env=variables, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise FailingTestsError(done.stdout)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(place / "coverage", folder / "coverage")
    shutil.copy2(place / "tests.json", folder / ".tests.json")
    os.replace(folder / ".tests.json", folder / "tests.json")
