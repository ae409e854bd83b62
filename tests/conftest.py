"""Where tests find real data, and a clean place for what runs write."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def find_data() -> Path | None:
    """The data folder: PERTEXP_DATA, or shared/data beside the checkout."""
    named = os.environ.get("PERTEXP_DATA")
    candidates = [Path(named)] if named else [ROOT.parent / "shared" / "data"]
    return next((path for path in candidates if (path / "screens").is_dir()), None)


@pytest.fixture(scope="session", autouse=True)
def _outside_of_slurm() -> Iterator[None]:
    """Take the variables of a SLURM allocation away: Lightning reads ranks and numbers of tasks from them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with screens/ and gene/; the test is skipped where there is none."""
    found = find_data()
    if found is None:
        pytest.skip("no data folder: set PERTEXP_DATA to a folder with screens/ and gene/")
    return found
