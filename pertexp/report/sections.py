"""A section of the page of a run: one function that returns the values, and one template that renders them.

Each task lists its own. A package adds some by an entry point of the group `pertexp.sections`, whose name is that of a
task, and whose value a tuple of sections:

    [project.entry-points."pertexp.sections"]
    screens = "my_models.report:SECTIONS"

Its functions get every run of the task; they return None for those of other models, and so are left out of their pages.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from markupsafe import Markup

from pertexp.config.errors import DataError
from pertexp.report.rendering import OWN, render
from pertexp.runs.reading import RunFolder

Folder = TypeVar("Folder", bound=RunFolder, contravariant=True)
Values = Mapping[str, object]
PLUGINS = "pertexp.sections"  # the entry-point group

# What stands in place of sections that every task has.
NO_CURVES = (
    "logs/metrics.csv is not in the folder or holds no loss: there are no learning curves (logger=csv writes them)."
)
NO_SPLIT = "Neither data.json nor split.parquet is in the folder: the split is not on record."
NO_DATA = "data.json is not in the folder: where the data come from is not on record."


@dataclass(frozen=True)
class ShownSection:
    """A section as the page shows it; without content it says why there is none."""

    id: str
    title: str
    link: str
    content: Markup | None
    absent: str
    in_header: bool


@dataclass(frozen=True)
class Section(Generic[Folder]):
    """A section of the page.

    Attributes
    ----------
    id, title
        Its anchor, and its heading.
    values
        From a run folder to the values of the template; None where there is nothing to show.
    template
        File beneath `templates/` of its package. Whatever is put into it is escaped; `parts.html.j2` holds tables and
        the like, and `|drawn` puts in a figure.
    absent
        The sentence that stands in its place where there is nothing to show; without one the section is left out.
    link
        What the navigation calls it: by default its title in lower case, and where it is empty, nothing.
    in_header
        Whether it stands beneath the verdict, without a heading, and not among the sections.
    package
        Package that holds the template.
    """

    id: str
    title: str
    values: Callable[[Folder], Values | None]
    template: str
    absent: str = ""
    link: str | None = None
    in_header: bool = False
    package: str = OWN

    def shown(self, run: Folder) -> ShownSection | None:
        """Return the section of a run; None where it is left out.

        Raises
        ------
        DataError
            Where its package holds no such template.
        """
        values = self.values(run)
        if values is None and not self.absent:
            return None
        content = None if values is None else render(self.template, values, self.package)
        link = self.title.lower() if self.link is None else self.link
        return ShownSection(self.id, self.title, link, content, self.absent, self.in_header)


def installed_sections(tasks: Collection[str]) -> dict[str, tuple[Section[Any], ...]]:
    """Return the sections of installed plug-ins by task, in the order of the names of their packages.

    Raises
    ------
    DataError
        Where a plug-in names a task that is not among these, or what it names are no sections.
    """
    found: dict[str, tuple[Section[Any], ...]] = dict.fromkeys(tasks, ())
    points = {(point.name, point.value): point for point in entry_points(group=PLUGINS)}
    for _, point in sorted(points.items()):
        if point.name not in found:
            raise DataError(
                f"{_plugin(point)} for the task {point.name}; expected one of {', '.join(tasks)}: install another "
                "version, or uninstall it."
            )
        found[point.name] += _sections_of(point)
    return found


def _sections_of(point: EntryPoint) -> tuple[Section[Any], ...]:
    try:
        sections = tuple(point.load())
        wrong = next((type(one).__name__ for one in sections if not isinstance(one, Section)), "")
        why = f"it holds a {wrong}" if wrong else ""
    except Exception as fault:  # importing a package runs whatever its author wrote
        why = f"{type(fault).__name__}: {fault}"
    if why:
        raise DataError(f"{_plugin(point)}, which is no tuple of sections ({why}): install it anew, or uninstall it.")
    return sections


def _plugin(point: EntryPoint) -> str:
    name = point.dist.name if point.dist else "that is installed"
    return f"the plug-in {name} names {point.value} as sections of the page of a run (entry point {PLUGINS})"
