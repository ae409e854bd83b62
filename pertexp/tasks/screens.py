"""Screens: cells × genes under perturbation."""

from pertexp.evaluation.screens.results import ScreenResults
from pertexp.report.screens.console import report_console
from pertexp.report.screens.content import screen_page_of
from pertexp.report.screens.reading import read_screen
from pertexp.report.screens.settings import ScreenSettings
from pertexp.runs.schema import ScreenMetrics
from pertexp.tasks.base import Task

SCREENS = Task(
    name="screens",
    metrics=ScreenMetrics,
    results=ScreenResults,
    read_run=read_screen,
    page_of=screen_page_of,
    template="screen.html.j2",
    console=report_console,
    settings_text=ScreenSettings(),
)
