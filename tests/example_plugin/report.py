"""A section of the page of a run: the validation metrics of the epoch that was kept."""

from pertexp.report.screens.reading import ScreenFolder
from pertexp.report.sections import Section, Values
from pertexp.report.tables import number


def kept_epoch(run: ScreenFolder) -> Values | None:
    """Show them for a run of this model; None leaves the section out of the pages of all others."""
    if run.metrics.model != "linear_shift" or not run.metrics.validation:
        return None
    return {"facts": [(name, number(value)) for name, value in run.metrics.validation.items()]}


SECTIONS = (Section("kept", "The epoch that was kept", kept_epoch, "kept_epoch.html.j2", package="example_plugin"),)
