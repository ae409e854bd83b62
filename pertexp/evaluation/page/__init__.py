"""The page: what a run folder has to say, or many of them, as one self-contained HTML file."""

from pathlib import Path


def write_page(folder: Path) -> Path:
    """Write report.html of a run from what lies in its folder; its path."""
    from pertexp.evaluation.page.rendering import write_page as write

    return write(folder)
