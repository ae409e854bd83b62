"""A section of the page of a run that a task or a family adds: one function, shown where it has something to show."""

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from pertexp.runs.reading import RunFolder


@dataclass(frozen=True)
class ShownSection:
    """A section as the page shows it."""

    id: str
    title: str
    content: Markup


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    id, title
        Its anchor, and its heading.
    content
        HTML of what a run folder holds, escaped; None where there is nothing to show.
    """

    id: str
    title: str
    content: Callable[[RunFolder], Markup | None]

    def shown(self, run: RunFolder) -> ShownSection | None:
        """Return the section of a run; None where it has nothing to show."""
        content = self.content(run)
        return None if content is None else ShownSection(self.id, self.title, content)
