"""The page: what a run folder has to say, or many of them, as one self-contained HTML file."""

from pathlib import Path


def write_page(folder: Path) -> Path:
    """Write report.html of a run from what lies in its folder; its path."""
    from pertexp.report.rendering import write_page as write

    return write(folder)


def page_said(folder: Path) -> str:
    """Write the page of a run that has just finished, and say where it is."""
    return f"page: {write_page(folder)}"


def leaderboard_said(sweep: Path) -> str:
    """Write the page of a sweep that has just finished, and say where it is."""
    from pertexp.report.leaderboard import write_leaderboard
    from pertexp.report.rendering import PAGE

    return f"page: {write_leaderboard([sweep], sweep / PAGE)}"
