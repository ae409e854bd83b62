"""Where the checkout, the tests' own configuration and real data lie."""

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SUPPORT = TESTS / "support"
ROOT = TESTS.parent


def find_data() -> Path | None:
    """The data folder: PERTEXP_DATA, or shared/data next to the checkout."""
    named = os.environ.get("PERTEXP_DATA")
    candidates = [Path(named)] if named else [ROOT.parent / "shared" / "data"]
    return next((path for path in candidates if (path / "screens").is_dir()), None)
