"""Where tests find real data, and a clean place for what runs write."""

import os
from pathlib import Path

import pytest

import pertexp.door  # noqa: F401  (lets hydra.compose find choices that are sorted by task)

ROOT = Path(__file__).resolve().parents[1]


def find_data() -> Path | None:
    """The data folder: PERTEXP_DATA, or shared/data beside the checkout."""
    named = os.environ.get("PERTEXP_DATA")
    candidates = [Path(named)] if named else [ROOT.parent / "shared" / "data"]
    return next((path for path in candidates if (path / "screens").is_dir()), None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with screens/ and gene/; the test is skipped where there is none."""
    found = find_data()
    if found is None:
        pytest.skip("no data folder: set PERTEXP_DATA to a folder with screens/ and gene/")
    return found
