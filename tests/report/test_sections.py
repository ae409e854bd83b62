"""A section is one function and one template: shown, left out, or absent with a reason."""

import typing
from importlib.resources import files
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from pertexp.config.errors import DataError
from pertexp.report.page import RunPage
from pertexp.report.provenance import PROVENANCE
from pertexp.report.sections import Section
from pertexp.runs.reading import RunFolder
from pertexp.runs.schema import RunMetrics
from pertexp.tasks.registry import TASKS

LISTED = [(name, section) for name, task in TASKS.items() for section in task.page.sections]
LISTED += [("all", section) for section in PROVENANCE]
TEMPLATES = Path(str(files("pertexp.report") / "templates"))


@pytest.fixture
def run(tmp_path) -> RunFolder:
    metrics = RunMetrics(task="screens", predicts="profile", model="a <model>", primary="mse", scale="", aggregate=[])
    return RunFolder(folder=tmp_path, metrics=metrics, data=None, environment=None, config=None, config_text="",
                     overrides=None, curves=None)  # fmt: skip


def glance(values, **more) -> Section[RunFolder]:
    return Section("own", "Own Words", lambda _: values, "glance.html.j2", **more)


@pytest.mark.parametrize(("task", "section"), LISTED, ids=[f"{task}-{section.id}" for task, section in LISTED])
def test_a_section_has_a_template_and_a_reason_for_its_absence(task, section):
    assert (TEMPLATES / section.template).is_file()
    may_be_absent = type(None) in typing.get_args(typing.get_type_hints(section.values)["return"])
    assert bool(section.absent) == (may_be_absent and not section.in_header)
    assert section.in_header == (not section.title)


def test_every_template_belongs_to_a_section_or_is_shared():
    used = {section.template for _, section in LISTED}
    shared = {"base.html.j2", "run.html.j2", "parts.html.j2", "leaderboard.html.j2"}
    assert {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.j2")} == used | shared


def test_values_are_put_into_the_template_and_escaped(run):
    shown = glance({"tiles": [], "ladder": None}).shown(run)
    assert (shown.id, shown.title, shown.link) == ("own", "Own Words", "own words")
    assert '<dl class="tiles">' in shown.content
    versions = next(section for section in PROVENANCE if section.id == "environment")
    hostile = Section("a", "A", lambda run: {"facts": [("x", run.metrics.model)], "packages": {}}, versions.template)
    assert "a &lt;model&gt;" in hostile.shown(run).content


def test_without_values_it_says_why_or_is_left_out(run):
    shown = glance(None, absent="there is none", link="short").shown(run)
    assert (shown.content, shown.absent, shown.link) == (None, "there is none", "short")
    assert glance(None).shown(run) is None
    shown = RunPage(RunFolder, (glance(None),)).shown(run)
    assert [section.id for section in shown] == ["config", "environment", "repeat"]


@pytest.mark.parametrize("package", ["pertexp.report", "example_plugin", "toy_task", "pertexp.nn", "no_such_package"])
def test_a_template_that_is_not_there_is_named(run, package):
    section = Section("own", "Own", lambda _: {}, "nowhere.html.j2", package=package)
    with pytest.raises(DataError, match=f"{package} holds no template nowhere.html.j2: expected {package}/templates/"):
        section.shown(run)


def test_a_value_that_is_not_there_is_named(run):
    with pytest.raises(UndefinedError, match="'ladder' is undefined"):
        glance({"tiles": []}).shown(run)


@pytest.mark.parametrize("taken", ["own", "repeat"])
def test_an_id_is_taken_once(taken):
    twice = Section(taken, "Twice", lambda _: None, "glance.html.j2")
    with pytest.raises(ValueError, match=f"there are two sections {taken} on one page"):
        RunPage(RunFolder, (glance(None), twice))
