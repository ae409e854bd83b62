"""The page of a run: title, verdict, the sections of its task, and provenance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

from pertexp.report.provenance import PROVENANCE, meta_of, title_of
from pertexp.report.rendering import PAGE, write_html
from pertexp.report.sections import Section, ShownSection
from pertexp.report.verdicts import verdict_of
from pertexp.runs.reading import RunFolder

Folder = TypeVar("Folder", bound=RunFolder)


@dataclass(frozen=True)
class RunPage(Generic[Folder]):
    """The contents of the page of a run; ValueError where two sections have one id.

    Attributes
    ----------
    read
        Reads the folder of a run.
    sections
        What is shown, in this order; the page ends with where the run comes from.
    """

    read: Callable[[Path], Folder]
    sections: tuple[Section[Folder], ...]

    def __post_init__(self) -> None:
        ids = [section.id for section in self._all]
        twice = next((name for name in ids if ids.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"there are two sections {twice} on one page.")

    def with_sections(self, further: Sequence[Section[Folder]]) -> Self:
        """Return the page with further sections after its own; ValueError where the id of one is taken."""
        return replace(self, sections=(*self.sections, *further))

    def shown(self, run: Folder) -> list[ShownSection]:
        """Return what the sections show of a run; those that are left out are not in it."""
        found = (section.shown(run) for section in self._all)
        return [section for section in found if section is not None]

    def write(self, folder: Path) -> Path:
        """Write report.html of a run from what lies in its folder; its path.

        Raises
        ------
        DataError
            Where a file of the folder cannot be read, or a section has no template.
        """
        run = self.read(folder)
        metrics, shown = run.metrics, self.shown(run)
        values = {
            "title": title_of(run),
            "meta": meta_of(run),
            "model": metrics.model,
            "verdict": verdict_of(metrics.model, metrics.verdict, metrics.not_counted),
            "header": [section for section in shown if section.in_header],
            "sections": [section for section in shown if not section.in_header],
        }
        return write_html(folder / PAGE, "run.html.j2", values)

    @property
    def _all(self) -> tuple[Section[Folder], ...]:
        return (*self.sections, *PROVENANCE)
