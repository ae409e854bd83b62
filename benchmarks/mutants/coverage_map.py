"""Which tests run which lines: found once for each test file and state of the code, and kept in `.cache/mutants`."""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from coverage import CoverageData

from benchmarks.mutants.copies import copy, environment, files
from benchmarks.mutants.recorder import TARGET

CACHE = Path(".cache") / "mutants"
CODE = ("pertexp", "conf", "tests", "pyproject.toml")  # what tests run, and what they say of it
SETTINGS = "[run]\nsource = pertexp\nrelative_files = true\n"
SOME_FAILED, NO_TESTS = 1, 5  # exit codes of pytest; without tests where a file holds slow ones alone
Lines = dict[str, dict[str, dict[str, list[int]]]]  # of each test, phase and module


class FailingTestsError(Exception):
    """Tests fail without any mutation."""


@dataclass
class CoverageMap:
    """How long each test takes, and which lines it runs.

    Attributes
    ----------
    seconds
        Of each test.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    _tests: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    _setting_up: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, seconds: dict[str, float], lines: Lines) -> None:
        """Add the tests of a file."""
        self.seconds |= seconds
        for test, phases in lines.items():
            for phase, modules in phases.items():
                self._add(test, phase, modules)

    def _add(self, test: str, phase: str, modules: dict[str, list[int]]) -> None:
        places = [(path, line) for path, numbers in modules.items() for line in numbers]
        for place in places:
            self._tests[place].add(test)
            if phase == "setup":
                self._setting_up[place].add(test.split("::")[0])

    def running(self, path: str, first: int, last: int) -> set[str]:
        """Name the tests that run a line of this range."""
        return {test for line in range(first, last + 1) for test in self._tests.get((path, line), ())}

    def files_setting_up(self, path: str, first: int, last: int) -> set[str]:
        """Name the test files with a fixture that runs a line of this range, perhaps for many of their tests."""
        return {file for line in range(first, last + 1) for file in self._setting_up.get((path, line), ())}

    def of_file(self, test_file: str) -> set[str]:
        """Name all tests of a file."""
        return {name for name in self.seconds if name.split("::")[0] == test_file}


def coverage_map(root: Path) -> CoverageMap:
    """Return the map of this state of the code; run the test files that are not in it yet.

    Raises
    ------
    FailingTestsError
        Where a test fails as the code is now.
    """
    kept = _kept(root)
    new = [file for file, place in kept.items() if not place.exists()]
    if new:
        with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
            _record(copy(root, Path(temporary)), new, kept)
    found = CoverageMap()
    for place in kept.values():
        found.add(**json.loads(place.read_text()))
    return found


def _kept(root: Path) -> dict[str, Path]:
    """Where the record of each test file lies: named after the file's content, in a folder named after the rest."""
    names = [name for name in files(root) if name.split("/")[0] in CODE]
    tests = [name for name in names if name.startswith("tests/") and PurePosixPath(name).name.startswith("test_")]
    folder = root / CACHE / _digest(root, sorted({*names} - {*tests}))
    return {name: folder / f"{_digest(root, [name])}.json" for name in tests}


def _digest(root: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0".encode() + (root / name).read_bytes())
    return digest.hexdigest()[:16]


def _record(place: Path, test_files: Sequence[str], kept: dict[str, Path]) -> None:
    """Run test files in a copy, all but their slow tests, and write a record of each."""
    (place / ".coveragerc").write_text(SETTINGS)
    words = ["-m", "pytest", "-n", "2", "--dist", "worksteal", "-m", "not slow", "-p", "benchmarks.mutants.recorder",
             "--cov", "--cov-context=test", "--cov-report=", "--cov-config=.coveragerc", *test_files]  # fmt: skip
    variables = {**environment(place), TARGET: str(place / "tests.json"), "COVERAGE_FILE": str(place / "coverage")}
    words = [sys.executable, *words]
    done = subprocess.run(words, cwd=place, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, SOME_FAILED, NO_TESTS):
        raise FailingTestsError(done.stdout)
    recorded = json.loads((place / "tests.json").read_text())
    ran = {test.split("::")[0] for test, outcome in recorded["outcomes"].items() if outcome != "failed"}
    failed = {test.split("::")[0] for test, outcome in recorded["outcomes"].items() if outcome == "failed"}
    sound = {*test_files} if done.returncode != SOME_FAILED else ran - failed
    write_records(recorded, lines_of(place / "coverage"), {file: kept[file] for file in sound})
    if done.returncode == SOME_FAILED:
        raise FailingTestsError(done.stdout)


def lines_of(data_file: Path) -> Lines:
    """Read what coverage.py recorded: contexts named `test|phase`."""
    data = CoverageData(str(data_file))
    data.read()
    lines: Lines = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for path in data.measured_files():
        for line, contexts in data.contexts_by_lineno(path).items():
            for test, _, phase in (context.rpartition("|") for context in contexts if context):
                lines[test][phase][path].append(line)
    return lines


def write_records(recorded: dict[str, Any], lines: Lines, kept: dict[str, Path]) -> None:
    """Write the tests of each file that passed, and the lines that they run."""
    passed = [test for test, outcome in recorded["outcomes"].items() if outcome == "passed"]
    for file, place in kept.items():
        own = [test for test in passed if test.split("::")[0] == file]
        record = {
            "seconds": {test: recorded["seconds"][test] for test in own},
            "lines": {test: lines[test] for test in own if test in lines},
        }
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(".partial")
        partial.write_text(json.dumps(record))
        partial.replace(place)
