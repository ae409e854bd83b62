"""The kinds of experiment that have a page: what a kind does its own way is looked up here, and nowhere else."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pertexp.errors import DataError
from pertexp.evaluation.pairs.results import PairEvidence
from pertexp.evaluation.results.evidence import Evidence
from pertexp.evaluation.screens.results import ScreenEvidence
from pertexp.report.pairs.content import pair_page_of
from pertexp.report.pairs.reading import read_pairs
from pertexp.report.screens.content import screen_page_of
from pertexp.report.screens.reading import read_screen
from pertexp.runs.reading import RunFolder, Summary, read_summary


@dataclass(frozen=True)
class Kind:
    """A kind of experiment.

    Attributes
    ----------
    read
        Reads the folder of a run.
    page_of
        What the page of such a run says, for the template.
    template
        Of the page of a run.
    evidence
        What a run was judged by, for a leaderboard.
    """

    read: Callable[[Path], RunFolder]
    page_of: Callable[[Any], Any]
    template: str
    evidence: type[Evidence]


KINDS = {
    "screen": Kind(read_screen, screen_page_of, "screen.html.j2", ScreenEvidence),
    "pairs": Kind(read_pairs, pair_page_of, "pairs.html.j2", PairEvidence),
}


def kind_of(folder: Path) -> Kind:
    """The kind of a run folder.

    Raises
    ------
    DataError
        Where its metrics.json cannot be read, or is of a kind that is not known.
    """
    kind = read_summary(folder, Summary).kind
    if kind not in KINDS:
        raise DataError(f"{folder} is a run on {kind}; expected one on {' or '.join(KINDS)}, as this version writes.")
    return KINDS[kind]
