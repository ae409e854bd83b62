"""Which tests are run for a mutant, and in which order."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from benchmarks.mutants.coverage_map import CoverageMap
from benchmarks.mutants.places import Place

DEFAULTS = "tests/config/test_defaults.py"  # looks at defaults without running what has them
STARTING = 0.5  # seconds until a further test file is imported


def chosen(place: Place, found: CoverageMap, root: Path, limit: float) -> list[list[str]]:
    """Choose tests in two groups, those of the mirrored file first; in each the fastest first, in `limit` seconds.

    Of a line that a fixture runs only the first of the tests that share it is known, so its file comes last as a whole.
    """
    running = _running(place, found, root)
    mirrored = mirror(place.path)
    sharing = {test for file in found.files_setting_up(place.path, *place.lines) for test in found.of_file(file)}
    first = _within([test for test in _fastest(running | sharing, found) if _is_of(test, mirrored)], found, limit)
    later = [*_fastest(running, found), *_fastest(sharing - running, found)]
    others = _within([test for test in later if not _is_of(test, mirrored)], found, limit)
    return [group for group in (first, others) if group]


def mirror(path: str) -> str:
    """Name the test file of a module: `tests/nn/test_graph.py` of `pertexp/nn/graph.py`."""
    module = PurePosixPath(path)
    return str(PurePosixPath("tests", *module.parts[1:-1], f"test_{module.name}"))


def _running(place: Place, found: CoverageMap, root: Path) -> set[str]:
    """Name the tests that the line matters to: that run it, or what is defined with it, where an import runs it."""
    if place.called:
        return found.running(place.path, *place.lines)
    if place.scope and (tests := found.running(place.path, place.scope[0] + 1, place.scope[1])):
        return tests | found.of_file(DEFAULTS)
    whole = found.running(place.path, 1, len((root / place.path).read_text().splitlines()))
    return (
        whole
        | found.of_file(DEFAULTS)
        | {test for file in _about(place.path, found, root) for test in found.of_file(file)}
    )


def _about(path: str, found: CoverageMap, root: Path) -> set[str]:
    """Name the test files that name the module, and those that mirror it and its neighbours."""
    module, folder = path.removesuffix(".py").replace("/", "."), mirror(path).rpartition("/")[0]
    files = {test.split("::")[0] for test in found.seconds}
    return {file for file in files if file.rpartition("/")[0] == folder or module in (root / file).read_text()}


def _is_of(test: str, file: str) -> bool:
    return test.split("::")[0] == file


def _fastest(tests: Iterable[str], found: CoverageMap) -> list[str]:
    return sorted(tests, key=lambda test: (found.seconds[test], test))


def _within(tests: list[str], found: CoverageMap, limit: float) -> list[str]:
    """Take tests in their order while their seconds, and those of starting another file, stay below the limit."""
    total, files, taken = 0.0, set[str](), list[str]()
    for test in tests:
        file = test.split("::")[0]
        total += found.seconds[test] + (0 if file in files else STARTING)
        if total > limit and taken:
            break
        files.add(file)
        taken.append(test)
    return taken
