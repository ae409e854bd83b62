"""The page: what a run folder has to say, or many of them, as one self-contained HTML file."""

import json
from pathlib import Path


def write_page(folder: Path) -> Path:
    """Write report.html of a run from what lies in its folder; its path."""
    from pertexp.evaluation.page.rendering import write_page as write

    return write(folder)


def page_said(folder: Path) -> str:
    """Write the page of a run that has just finished, and say where it is; there is none yet for pairs."""
    kind = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("kind", "screen")
    if kind != "screen":
        return f"page: none yet for a run on {kind}, read metrics.json and predictions.parquet"
    return f"page: {write_page(folder)}"
