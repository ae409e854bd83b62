"""The page: what a run folder has to say, or many of them, as one self-contained HTML file."""

import json
from collections.abc import Callable
from pathlib import Path


def write_page(folder: Path) -> Path:
    """Write report.html of a run from what lies in its folder; its path."""
    from pertexp.evaluation.page.rendering import write_page as write

    return write(folder)


def page_said(folder: Path) -> str:
    """Write the page of a run that has just finished, and say where it is; there is none yet for pairs."""
    return _unless_pairs(folder, lambda: write_page(folder))


def leaderboard_said(sweep: Path, job: Path) -> str:
    """Write the page of a sweep that has just finished, one of its jobs in hand, and say where it is."""
    from pertexp.evaluation.page.leaderboard import write_leaderboard
    from pertexp.evaluation.page.rendering import PAGE

    return _unless_pairs(job, lambda: write_leaderboard([sweep], sweep / PAGE))


def _unless_pairs(run: Path, write: Callable[[], Path]) -> str:
    kind = json.loads((run / "metrics.json").read_text(encoding="utf-8")).get("kind", "screen")
    if kind != "screen":
        return f"page: none yet for {kind}, read metrics.json and predictions.parquet"
    return f"page: {write()}"
