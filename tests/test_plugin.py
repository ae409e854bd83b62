"""A model, loss, split, data class and baseline from outside the package (tests/example_plugin) do all that ours do."""

import importlib
import inspect
import json
import os
import pydoc
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from command import command, of
from hydra import compose, initialize_config_dir
from places import ROOT, TESTS
from resuming import assert_same_end, interrupted

from pertexp.config.errors import DataError, RequestError
from pertexp.config.search_path import SearchPath, config_folder
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.evaluation.screens.families import OnFrame
from pertexp.metrics.core import CORE
from pertexp.metrics.metric import table
from pertexp.metrics.registry import METRICS
from pertexp.models.protocols import NamedPredictor, PairModel, ScreenModel
from pertexp.report.tables import number
from pertexp.tasks.registry import restore, write_page

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("module_outputs")]

TYPED = "hydra.searchpath=[pkg://example_plugin.conf]"
SHORT = (
    "model=linear_shift", "evaluation=with_median", "evaluation.n_resamples=20", "trainer.max_epochs=3",
    "print_config=false", "~callbacks.progress", "+trainer.enable_progress_bar=false",
)  # fmt: skip
BOTH = SearchPath((f"file://{config_folder()}", "pkg://example_plugin.conf"))


def predict(*words):
    return of(importlib.import_module("pertexp.predict").main, "pertexp.predict", *words)


def evaluate(*words):
    return of(importlib.import_module("pertexp.evaluate").main, "pertexp.evaluate", *words)


def means(folder: Path) -> dict[tuple[str, str], float]:
    rows = json.loads((folder / "metrics.json").read_text())["aggregate"]
    return {(row["model"], row["metric"]): row["mean"] for row in rows}


@pytest.fixture(scope="module")
def run(module_outputs):
    done = command(TYPED, *SHORT)
    assert done.code == 0, done.err
    return done.folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution with an entry point, as far as importlib.metadata can see."""

    def install(value: str, group: str = "pertexp.conf", name: str = "example") -> None:
        folder = tmp_path / "site" / "example_plugin-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: example-plugin\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        monkeypatch.syspath_prepend(str(folder.parent))

    return install


def test_it_is_trained_and_scored_beside_all_baselines(run):
    found = means(run)
    assert {"linear_shift", "median_effect", "train_mean", "bilinear_ridge", "replicate"} <= {name for name, _ in found}
    assert np.isfinite([value for (name, _), value in found.items() if name == "linear_shift"]).all()
    split = pd.read_parquet(run / "split.parquet")
    tested = split[(split["fold"] == 0) & (split["role"] == "test")]["perturbation"].tolist()
    assert tested == ["gene00", "gene03", "gene06", "gene09"]  # alphabetical
    losses = pd.read_csv(next(run.rglob("metrics.csv")))["val/loss"].dropna().tolist()
    assert losses[-1] < losses[0]


@pytest.fixture(scope="module")
def robust(module_outputs):
    """A sweep of two folds, scored by our metrics and those of the package."""
    done = command("-m", TYPED, *SHORT[:1], "evaluation=[core,robust]", *SHORT[2:], "data.split.fold=0,1")
    assert (done.code, done.err) == (0, "")
    folder = Path([line for line in done.out.splitlines() if line.startswith("written to ")][-1][len("written to ") :])
    return done.out, folder.parent


def test_its_metrics_are_in_table_files_and_page(robust):
    """As they are, by name, with their direction; values are those of a loop."""
    said, folder = robust
    assert "robust/" in said
    table = pd.read_csv(folder / "sweep.csv")
    assert {"robust/median_error", "robust/close", "mse"} <= set(table.columns)
    runs = sorted(path.parent for path in folder.glob("*/metrics.json"))
    for run in runs:
        stored = anndata.read_h5ad(run / "predictions.h5ad")
        expected = np.mean([np.median(np.abs(a - b)) for a, b in zip(stored.X, stored.layers["truth"], strict=True)])
        assert means(run)["linear_shift", "robust/median_error"] == pytest.approx(expected)
        assert "robust/median_error" in (run / "report.html").read_text().replace("<wbr>", "")
    assert {"robust/median_error"} <= set(json.loads((runs[0] / "metrics.json").read_text())["verdict"][-1].values())


SHOW = """
import re, sys
from pathlib import Path
from pertexp.metrics.registry import METRICS
from pertexp.report.__main__ import report
assert "robust/median_error" not in METRICS
for folder in sys.argv[1:]:
    page = report([folder]).read_text().replace("<wbr>", "")
    arrows = re.findall(r"median_error[^↑↓]{0,60}([↑↓])", page)
    print(arrows != [] and set(arrows) == {"↓"}, "example_plugin" in sys.modules)
print(METRICS["robust/median_error"].higher_is_better, METRICS["robust/close"].higher_is_better)
"""


def test_its_metrics_are_shown_where_the_package_is_not(robust):
    """In another process that has never seen it: metrics.json says how they are to be read."""
    _, folder = robust
    run = next(iter(sorted(folder.glob("*/metrics.json")))).parent
    done = subprocess.run([sys.executable, "-c", SHOW, str(run), str(folder)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["True False", "True False", "False True"]


def test_a_metric_with_two_meanings_is_refused(robust, tmp_path):
    from pertexp.runs.reading import read_metrics
    from pertexp.runs.schema import ScreenMetrics

    _, folder = robust
    document = json.loads(next(folder.glob("*/metrics.json")).read_text())
    document["definitions"][0] |= {"higher_is_better": True, "best": 1.0, "worst": 0.0}
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="there is a metric robust/median_error already, and another meaning"):
        read_metrics(tmp_path, ScreenMetrics)


@pytest.mark.parametrize(("row", "said"), [
    (replace(CORE["mse"], worst=7.0), "evaluation.families.mine: there is a metric mse already"),
    (replace(CORE["mse"], name="mine"), "the metric mine lacks its family: name it <family>/mine"),
])  # fmt: skip
def test_a_metric_of_ours_cannot_be_replaced_by_a_plugin(row, said):
    class Mine(OnFrame):
        metrics = table(row)

    with pytest.raises(RequestError, match=said):
        ScreenEvaluation(families={"mine": Mine()})
    assert METRICS["mse"].worst == np.inf


def test_a_metric_without_a_value_for_each_unit_is_refused(run, monkeypatch):
    from example_plugin.metric import Robust

    short = replace(Robust.metrics["robust/median_error"], function=lambda view: view.truth[0])
    monkeypatch.setattr(Robust, "metrics", table(short))
    refused = evaluate(TYPED, f"ckpt={run}", "evaluation=robust")
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert "robust/median_error gave values of shape (20,) for linear_shift: expected one value" in refused.err


def test_it_is_resumed_to_the_same_numbers(run, module_outputs):
    folder = interrupted(module_outputs, "validation_start", 3, TYPED, *SHORT)
    done = command(TYPED, *SHORT, f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert done.code == 0, done.err
    assert_same_end(done.folder, run)


def test_it_predicts_by_name_as_it_did_in_its_run(run):
    theirs = anndata.read_h5ad(run / "predictions.h5ad")
    names = theirs.obs["perturbation"].astype(str).tolist()
    done = predict(TYPED, f"ckpt={run}", f"perturbations=[{','.join(names)},gene03+gene19]")
    assert done.code == 0, done.err
    found = anndata.read_h5ad(done.folder)
    assert found.obs["perturbation"].tolist() == ["control", *names, "gene03+gene19"]
    np.testing.assert_allclose(found.X[1:-1], theirs.X, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found.X[-1], found.X[0])  # a pair that no cell had, of a gene that was never perturbed


def test_it_is_evaluated_from_its_checkpoint(run):
    done = evaluate(TYPED, f"ckpt={run}")
    assert done.code == 0, done.err
    assert means(done.folder) == pytest.approx(means(run), rel=1e-9)


def test_a_sweep_over_it_ends_with_one_table_and_a_page(module_outputs):
    before = set((module_outputs / "sweeps").glob("*"))
    done = command("-m", TYPED, *SHORT, "model/link=bounded,linear")
    assert done.code == 0, done.err
    (folder,) = set((module_outputs / "sweeps").iterdir()) - before
    table = pd.read_csv(folder / "sweep.csv")
    assert set(table.loc[table["role"] == "model", "model/link"]) == {"bounded", "linear"}
    (folder / "report.html").unlink()
    report = importlib.import_module("pertexp.report.__main__")
    shown = of(report.main, "pertexp.report", str(folder))
    assert shown.code == 0, shown.err
    assert "linear_shift" in (folder / "report.html").read_text()


def test_the_page_of_a_run_needs_no_search_path(run):
    (run / "report.html").unlink()
    shown = of(importlib.import_module("pertexp.report.__main__").main, "pertexp.report", str(run))
    assert shown.code == 0, shown.err
    assert "linear_shift on poisson_screen" in (run / "report.html").read_text()


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LINES = re.findall(r"^python -m pertexp\.(run|predict|evaluate|calibrate) (.+)$", CONTRIBUTING, re.MULTILINE)


@pytest.mark.parametrize(("name", "line"), LINES)
def test_every_line_of_the_guide_composes(name, line):
    words = [re.sub("[<>]", "", word) for word in shlex.split(line) if word != "-m"]
    first = [word if "[" in word else word.partition(",")[0] for word in words]  # of a sweep the first job
    with initialize_config_dir(config_folder(), version_base="1.3"):
        compose(name, overrides=first)


def test_the_guide_lists_the_files_of_the_example():
    folder = TESTS / "example_plugin"
    listing = CONTRIBUTING.partition("example_plugin/\n")[2].partition("```")[0]
    listed = set(re.findall(r"[\w/]+\.(?:yaml|py)", listing)) - {"__init__.py"}
    found = {str(path.relative_to(folder / "conf")) for path in folder.rglob("*.yaml")}
    assert listed == found | {path.name for path in folder.glob("*.py")} - {"__init__.py"}


@pytest.mark.parametrize("command_of", [predict, evaluate])
def test_without_its_configuration_it_is_refused(run, command_of):
    refused = command_of(f"ckpt={run}")
    assert refused.code == 2
    assert "was written by example_plugin.model.LinearShift.from_data, which no model= of this" in refused.err
    assert f"type '{TYPED.replace('example_plugin', '<package>')}'" in refused.err  # as the other tests do
    assert refused.err.count("\n") == 1


def test_a_folder_will_do_in_place_of_a_package(run):
    folder = TESTS / "example_plugin" / "conf"
    done = predict(f"hydra.searchpath=[file://{folder}]", f"ckpt={run}")
    assert done.code == 0, done.err


def test_an_installed_plugin_is_found_by_its_entry_point(run, installed):
    with pytest.raises(DataError, match="which no model= of this installation builds"):
        restore(str(run))
    installed("example_plugin.conf")
    trained = restore(str(run))
    assert (type(trained.model).__name__, trained.name) == ("LinearShift", "linear_shift")
    assert trained.model.link.bound == 2.0
    composed = command("--cfg", "job", *SHORT)
    assert "example_plugin.data.PoissonScreen" in composed.out, composed.err
    done = predict(f"ckpt={run}")
    assert done.code == 0, done.err


def test_our_choices_cannot_be_replaced_by_a_plugin(installed, tmp_path, monkeypatch):
    (tmp_path / "shadow_conf" / "model").mkdir(parents=True)
    (tmp_path / "shadow_conf" / "__init__.py").touch()
    (tmp_path / "shadow_conf" / "model" / "nbglm.yaml").write_text("_target_: shadow.Model\nname: shadow\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    installed("shadow_conf")
    shown = command("--cfg", "job", "-p", "model", "model=nbglm")
    assert "pertexp.models.nbglm.NBGLM.from_data" in shown.out, shown.err


@pytest.mark.parametrize("conf", ["no_such_package.conf", "example_plugin.no_conf"])
def test_a_plugin_that_cannot_be_imported_is_one_message(installed, conf):
    installed(conf)
    done = command("--cfg", "job", "model=nbglm")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert f"the plug-in example-plugin names {conf} as its configuration" in done.err


@pytest.mark.parametrize(
    ("target", "contract"),
    [
        ("pertexp.models.nbglm.NBGLM", ScreenModel),
        ("pertexp.models.gears.GEARS", ScreenModel),
        ("pertexp.models.prism.PRISM", PairModel),
        ("example_plugin.model.LinearShift", ScreenModel),
    ],
)
def test_every_model_is_built_by_the_same_calls(target, contract):
    """Parameters are handed over by the names, and weights and schema in the order, of the contract."""
    owner = pydoc.locate(target)
    for call in ("from_data", "from_checkpoint"):
        wanted = list(inspect.signature(getattr(contract, call)).parameters.values())[:-1]
        found = inspect.signature(getattr(owner, call)).parameters
        positional = [one.name for one in found.values() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        assert {one.name for one in wanted} <= set(found)
        if call == "from_checkpoint":
            assert positional[:2] == [one.name for one in wanted] == ["weights", "schema"]
            assert found["schema"].default is None


def test_every_model_of_the_package_is_held_to_its_contract():
    assert SearchPath.installed().model_targets() == {
        "pertexp.models.nbglm.NBGLM.from_data",
        "pertexp.models.gears.GEARS.from_data",
        "pertexp.models.prism.PRISM.from_data",
    }


@pytest.mark.parametrize("group", ["../data", "../loss", "../../example_plugin/conf/loss", "no_such_group", "link/.."])
def test_a_group_is_one_right_below_model(group):
    assert BOTH.model_targets(group) == frozenset()
    assert BOTH.model_targets("link") == {"example_plugin.link.Bounded", "example_plugin.link.Linear"}


def changed(run: Path, place: Path, change) -> str:
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    change(stored["restore"]["model"])
    torch.save(stored, place / "changed.ckpt")
    return str(place / "changed.ckpt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model.update(_target_="os.system"), "was written by os.system, which no model="),
        (lambda model: model.update(_target_="planted_module.Model.from_data"), "was written by planted_module"),
        (lambda model: model.update(_target_="example_plugin.link.Linear"), "was written by example_plugin.link"),
        (lambda model: model["link"].update(_target_="os.system"), "names os.system under link, which no model/link="),
        (lambda model: model["link"].update(_target_="planted_module.Model"), "names planted_module.Model under link"),
        (lambda model: model["link"].update(_target_="example_plugin.loss.Huber"), "example_plugin.loss.Huber under"),
        (lambda model: model.update({"../loss": {"_target_": "example_plugin.loss.Huber"}}), "Huber under ../loss"),
        (lambda model: model["link"].update(bound="wide"), "does not fit the model that it names"),
        (lambda model: model.pop("link"), "missing a required"),
    ],
)  # fmt: skip
def test_a_checkpoint_builds_nothing_that_no_file_names(run, tmp_path, monkeypatch, change, said):
    (tmp_path / "planted_module.py").write_text("class Model:\n    from_data = from_checkpoint = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=r"^\S+changed.ckpt ") as refused:
        restore(changed(run, tmp_path, change), BOTH)
    assert said in str(refused.value)
    assert "planted_module" not in sys.modules


def test_a_choice_may_be_a_plain_class(run, tmp_path):
    def other(model):
        model["link"] = {"_target_": "example_plugin.link.Linear"}

    trained = restore(changed(run, tmp_path, other), BOTH)
    bounded = restore(str(run), BOTH)
    units = trained.model.units_named(["gene01"], "culture")
    effects = [one.model.predict(units) - one.control for one in (trained, bounded)]
    np.testing.assert_allclose(2.0 * np.tanh(effects[0] / 2.0), effects[1], atol=1e-5)


def test_a_model_that_takes_no_names_is_evaluated_and_not_asked(run, monkeypatch):
    from example_plugin.model import LinearShift

    monkeypatch.delattr(LinearShift, "units_named")
    assert not isinstance(restore(str(run), BOTH).model, NamedPredictor)
    asked = predict(TYPED, f"ckpt={run}")
    assert (asked.code, asked.err.count("\n")) == (2, 1), asked.err
    assert "linear_shift cannot be asked for perturbations by name" in asked.err
    scored = evaluate(TYPED, f"ckpt={run}")
    assert scored.code == 0, scored.err


def test_an_installed_plugin_adds_a_section_to_the_pages_of_its_model(run, installed):
    first = (run / "report.html").read_text()
    assert 'id="kept"' not in first
    installed("example_plugin.report:SECTIONS", "pertexp.sections", "screens")
    text = write_page(run).read_text()
    assert text.index('id="data"') < text.index('id="kept"') < text.index('id="config"')
    kept = json.loads((run / "metrics.json").read_text())["validation"]["val/loss"]
    assert f"<dt>val/loss</dt><dd>{number(kept)}</dd>" in text
    other = json.loads((run / "metrics.json").read_text()) | {"model": "train_mean"}
    (run.parent / "other").mkdir()
    (run.parent / "other" / "metrics.json").write_text(json.dumps(other))
    assert 'id="kept"' not in write_page(run.parent / "other").read_text()
    (run / "report.html").write_text(first)


@pytest.mark.parametrize(("value", "task", "said"), [
    ("example_plugin.report:SECTION", "screens", r"no tuple of sections \(AttributeError: .*'SECTION'"),
    ("no_such_package:SECTIONS", "screens", r"no tuple of sections \(ModuleNotFoundError"),
    ("example_plugin.report:kept_epoch", "screens", r"no tuple of sections \(TypeError"),
    ("example_plugin.conf:__name__", "screens", r"no tuple of sections \(it holds a str\)"),
    ("example_plugin.report:SECTIONS", "screen", "for the task screen; expected one of screens, pairs"),
    ("pertexp.report.provenance:PROVENANCE", "pairs", "there are two sections config on one page"),
])  # fmt: skip
def test_sections_that_are_none_are_refused_before_anything_is_trained(installed, value, task, said):
    installed(value, "pertexp.sections", task)
    words = [f"model={'prism' if task == 'pairs' else 'linear_shift'}", *SHORT[1:]]
    done = command(TYPED, *([word for word in words if "with_median" not in word] if task == "pairs" else words))
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert re.search(said, done.err), done.err
    assert "written to" not in done.out
