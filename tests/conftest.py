"""Which tests run, where they find real data, and the environment that they run in."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from places import find_data

import pertexp.config.cli  # noqa: F401  (lets hydra.compose find choices that are sorted by task)

SLOW_SEED = "PERTEXP_SLOW_SEED"


def pytest_configure() -> None:
    """Take the variables of a SLURM allocation away, before Lightning is imported: it reads its rank there, once."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", choices=["all", "tenth"], default="all", help="how many of the slow tests run")
    seed = int(os.environ.get(SLOW_SEED, "0"))
    parser.addoption("--slow-seed", type=int, default=seed, help=f"chooses the tenth; by default {SLOW_SEED}, or 0")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave nine tenths of the slow tests out, if only a tenth is wanted: the same ones in every worker."""
    if config.getoption("slow") == "all":
        return
    slow = [item.nodeid for item in items if item.get_closest_marker("slow")]
    left_out = set(slow) - tenth(slow, config.getoption("slow_seed"))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("slow") == "tenth":
        seed = config.getoption("slow_seed")
        terminalreporter.write_line(f"of the slow tests a tenth ran, chosen by --slow-seed={seed} ({SLOW_SEED})")


def tenth(names: Iterable[str], seed: int) -> set[str]:
    """A tenth of the names, rounded up, chosen by seed and names alone, whatever their order."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest())
    return set(ranked[: -(-len(ranked) // 10)])


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with screens/ and gene/; the test is skipped where there is none."""
    found = find_data()
    if found is None:
        pytest.skip("no data folder: set PERTEXP_DATA to a folder with screens/ and gene/")
    return found


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of outputs for one test."""
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def module_outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of outputs for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("outputs")
        patch.setenv("PERTEXP_OUTPUTS", str(folder))
        yield folder
