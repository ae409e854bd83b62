"""What depends on the task is looked up in its registry: a third task goes through every command."""

import json
import re
import subprocess

import pandas as pd
import pytest
from command import Ran, command, of
from pages import Page
from places import ROOT
from toy_task import TOY_TASK, ToyModel

from pertexp import calibrate, evaluate, predict
from pertexp.report.__main__ import report
from pertexp.report.sections import Section
from pertexp.tasks.registry import TASKS, register, register_section, task_of, write_page

FOUND = f"hydra.searchpath=[file://{ROOT / 'tests' / 'conf'}]"
WORDS = (FOUND, "model=toy", "trainer.max_epochs=30", "optimizer.lr=0.1", "~callbacks.progress",
         "+trainer.enable_progress_bar=false", "print_config=false")  # fmt: skip


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    monkeypatch.delitem(TASKS, "toys", raising=False)
    register(TOY_TASK)
    yield
    del TASKS["toys"]


def ran(*words: str) -> Ran:
    done = command(*WORDS, *words)
    assert (done.code, done.err) == (0, "")
    return done


@pytest.mark.medium
def test_it_runs_repeats_and_resumes():
    done = ran()
    assert "toy beats nothing on mse: difference -" in done.out
    page = (done.folder / "report.html").read_text()
    assert '<section id="prices">' in page
    assert "20 prices &lt;told&gt;" in page
    assert task_of(done.folder) is TOY_TASK
    longer = ran(f"ckpt_path={done.folder / 'checkpoints' / 'last.ckpt'}", "trainer.max_epochs=40")
    straight = ran("trainer.max_epochs=40")
    pd.testing.assert_frame_equal(*(pd.read_parquet(one.folder / "toys.parquet") for one in (longer, straight)))
    again = command(f"repeat={done.folder}", FOUND)
    pd.testing.assert_frame_equal(*(pd.read_parquet(one.folder / "toys.parquet") for one in (done, again)))


def test_a_section_is_added_to_the_pages_of_a_task():
    folder = ran().folder
    before = [attributes["id"] for attributes in Page(folder / "report.html").named("section")]
    own = Section("weights", "Weights", lambda run: {"said": f"a section of {run.metrics.model}"}, "prices.html.j2",
                  package="toy_task")  # fmt: skip
    register_section("toys", own)
    page = Page(write_page(folder))
    after = [attributes["id"] for attributes in page.named("section")]
    assert after == [*before[:2], "weights", *before[2:]] == ["verdict", "prices", "weights", "config", "environment",
                                                              "repeat"]  # fmt: skip
    assert "a section of toy" in page.text
    assert '<a href="#weights">weights</a>' in page.source
    with pytest.raises(ValueError, match="there are two sections weights"):
        register_section("toys", own)


@pytest.mark.medium
def test_it_predicts_and_is_scored_from_its_checkpoint():
    done = ran()
    out = done.folder / "new.csv"
    asked = of(predict.main, "pertexp.predict", f"ckpt={done.folder}", "draws=7", f"out={out}")
    assert asked.code == 0, asked.err
    assert len(pd.read_csv(out)) == 7
    refused = of(predict.main, "pertexp.predict", f"ckpt={done.folder}", "cells=3")
    assert "cells is not an option for a model of toys" in refused.err
    scored = of(evaluate.main, "pertexp.evaluate", f"ckpt={done.folder}", FOUND)
    assert scored.code == 0, scored.err
    first, second = (json.loads((one.folder / "metrics.json").read_text()) for one in (done, scored))
    assert first["aggregate"] == second["aggregate"]


@pytest.mark.medium
def test_it_sweeps_and_is_reported():
    done = command("-m", *WORDS, "optimizer.lr=0.001,0.1", "data.split.fold=0,1", "seed=0,1",
                   "hydra.callbacks.sweep_table.reference='optimizer.lr=0.1'")  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert "8 jobs on toys, folds together" in done.out
    assert "toys are toys" in done.out
    table = pd.read_csv(done.folder)
    assert list(table["role"]) == ["model", "model", "baseline"]
    comparisons = pd.read_csv(done.folder.parent / "comparison.csv")
    assert list(comparisons["basis"]) == ["best baseline", "setting"]
    assert list(comparisons["n"]) == [40, 40]
    assert "Prices are made up." in report([str(done.folder.parent)]).read_text()


@pytest.mark.parametrize(("words", "message"), [
    ((FOUND, "model=toy", "data=simulated_screen"),
     "evaluation=toys scores toys, but data=simulated_screen holds screens: type data=toys, or model=nbglm"),
    ((FOUND, "model=toy", "evaluation=core"), "evaluation=core scores screens, but data=toys holds toys"),
    ((FOUND, "model=nbglm", "data=toys", "evaluation=toys"),
     "evaluation=toys scores models that predict impact, but model=nbglm predicts profile: type model=toy."),
])  # fmt: skip
def test_what_is_of_another_task_is_refused_with_what_to_type(words, message):
    done = command(*words, "print_config=false")
    assert done.code == 2
    assert message in done.err


def test_a_model_that_does_not_say_what_it_predicts_is_refused(monkeypatch):
    monkeypatch.delattr(ToyModel, "predicts")
    done = command(*WORDS)
    assert (done.code, "but model=toy declares no `predicts`" in done.err) == (2, True)


def test_what_a_task_cannot_is_refused():
    done = of(calibrate.main, "pertexp.calibrate", FOUND, "data=toys", "evaluation=toys")
    assert (done.code, "metrics of toys cannot be calibrated" in done.err) == (2, True)
    done = of(evaluate.main, "pertexp.evaluate", FOUND, "data=toys", "evaluation=toys", "pred=x.h5ad")
    assert (done.code, "predictions of another tool cannot be scored for toys" in done.err) == (2, True)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="there is a task toys already"):
        register(TOY_TASK)


def test_no_other_place_asks_which_task_it_is():
    """Outside of tasks/, no code compares the name of a task, nor a registry of classes by task."""
    files = subprocess.run(["git", "ls-files", "pertexp/*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in files.stdout.split():
        text = (ROOT / name).read_text()
        if not name.startswith("pertexp/tasks/"):
            assert not re.search(r"task\s*(==|!=|in)\s*[\"'(]", text), name
            assert "singledispatch" not in text, name


def test_no_other_place_asks_what_a_model_predicts():
    """Outside of tasks/, what is declared is compared with what is declared, and with no name or class."""
    files = subprocess.run(["git", "ls-files", "pertexp/*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    asked = re.compile(
        r"(predicts|output|scores_output)\b[\w.]*\s*(==|!=|in|not in)\s*[\"'(]"
        r"|isinstance\([^)]*\b(Profile|Impact|Probability)\b"
    )
    assert asked.search('if model.predicts.name == "impact":')
    assert asked.search("isinstance(model.predicts, Impact)")
    for name in files.stdout.split():
        if not name.startswith("pertexp/tasks/"):
            found = asked.search((ROOT / name).read_text())
            assert found is None, (name, found)
