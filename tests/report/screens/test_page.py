"""The page of a run: all that its folder says, from the folder alone, whatever lies in it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from command import TINY, command
from pages import Page, changed
from places import ROOT

from pertexp.config.errors import DataError
from pertexp.report import __main__ as report
from pertexp.report.rendering import breakable
from pertexp.report.screens.reading import read_screen
from pertexp.report.screens.units import Unit, effects_of, ranked, units_of
from pertexp.report.sentences import sentence
from pertexp.report.tables import Column, Row, Value, best_row, family_tables, interval, number
from pertexp.report.verdicts import verdict_of
from pertexp.runs.reading import read_metrics
from pertexp.runs.schema import Comparison, ScreenMetrics
from pertexp.tasks.registry import write_page
from pertexp.tasks.screens import SCREENS

pytestmark = pytest.mark.medium

OPTIONAL = {
    "metrics.parquet": "metrics.parquet is not in the folder",
    "predictions.h5ad": "predictions.h5ad or metrics.parquet is not in the folder",
    "split.parquet": "split.parquet is not in the folder",
    "data.json": "data.json is not in the folder",
    "environment.json": "environment.json is not in the folder",
    "config/config.yaml": "config/config.yaml is not in the folder",
    "config/overrides.yaml": "config/overrides.yaml is not in the folder",
    "logs/metrics.csv": "logs/metrics.csv is not in the folder",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = command(*TINY, "data.simulator.n_combinations=6", "tags=[first]")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def folder(ran, tmp_path) -> Path:
    """A copy of the run, to do with as a test likes."""
    return Path(shutil.copytree(ran.folder, tmp_path / "12-34-56-000000_nbglm_simulated_screen"))


@pytest.fixture(scope="module")
def page(ran) -> Page:
    return Page(ran.folder / "report.html")


def test_a_run_ends_with_its_page_and_names_it(ran):
    assert f"page: {ran.folder / 'report.html'}" in ran.out


def test_the_page_says_what_the_folder_says(ran, page):
    summary = json.loads((ran.folder / "metrics.json").read_text())
    data = json.loads((ran.folder / "data.json").read_text())
    environment = json.loads((ran.folder / "environment.json").read_text())
    verdict = [sentence(found) for found in read_metrics(ran.folder, ScreenMetrics).verdict]
    assert page.text.index(verdict[0]) < page.text.index("Scores")
    for said in (
        *verdict, summary["scale"], data["split_hash"], environment["packages"]["torch"], "tags=[first]",
        "n_perturbations: 15", f"repeat={ran.folder.name}", "cosine of kernels", f"{data['cells']} cells",
    ):  # fmt: skip
        assert said in page.text, said
    assert "nbglm on simulated_screen" in page.text
    sections = [attributes["id"] for attributes in page.named("section")]
    assert sections == ["verdict", "scores", "effects", "controls", "units", "curves", "calibration", "split", "data",
                        "config", "environment", "repeat"]  # fmt: skip
    assert "absent" not in [
        attributes.get("class") for attributes in page.named("p") if "data-nothing" not in attributes
    ]


def test_every_section_is_shown_on_a_full_run(ran):
    shown = SCREENS.page.shown(read_screen(ran.folder))
    assert {section.id for section in SCREENS.page.sections} < {section.id for section in shown}
    assert all(section.content for section in shown)


def test_the_table_holds_the_numbers_of_metrics_json(ran, page):
    aggregate = json.loads((ran.folder / "metrics.json").read_text())["aggregate"]
    metrics = [attributes["data-metric"].split()[0] for attributes in page.named("th") if "data-metric" in attributes]
    shown = {row["model"]: page.row(row["model"]) for row in aggregate}
    for row in aggregate:
        assert float(shown[row["model"]][metrics.index(row["metric"])]["data-value"]) == row["mean"]
    own = next(row for row in aggregate if (row["model"], row["metric"]) == ("nbglm", "pearson_delta"))
    assert f"cal {number(own['calibrated'], 2)}" in page.text
    assert interval(own["low"], own["high"], 3) in page.text


def test_the_best_of_each_column_is_marked_and_the_replicate_never(ran, page):
    table = pd.DataFrame(json.loads((ran.folder / "metrics.json").read_text())["aggregate"])
    aside = ["truth", "replicate"]
    mse = table[(table["metric"] == "mse") & ~table["model"].isin(aside)].set_index("model")["mean"]
    at = [attributes["data-metric"] for attributes in page.named("th") if "data-metric" in attributes].index("mse core")
    marked = {name for name in [*mse.index, *aside] if "best" in (page.row(name)[at].get("class") or "")}
    assert marked == {mse.idxmin()}


def test_subgroups_are_shown_where_there_are_combinations(page):
    assert "single, unseen (n = " in page.text
    assert "of 2 seen (n = " in page.text


@pytest.mark.parametrize("missing", OPTIONAL)
def test_a_missing_file_is_said_in_its_section(folder, missing):
    (folder / missing).unlink()
    found = Page(write_page(folder))
    assert OPTIONAL[missing] in found.text
    assert "nbglm on" in found.text


def test_metrics_json_alone_makes_a_page(folder):
    for path in list(folder.iterdir()):
        if path.name != "metrics.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = Page(write_page(folder))
    assert found.text.count("not in the folder") >= 6
    assert len(found.row("train_mean")) > 5
    shown = SCREENS.page.shown(read_screen(folder))
    assert {section.id for section in SCREENS.page.sections} < {section.id for section in shown}
    for section in shown:
        assert section.content or section.absent in found.text


@pytest.mark.parametrize(
    "name", ["metrics.json", *(name for name in OPTIONAL if not name.startswith(("config", "logs")))]
)
def test_a_file_that_is_cut_off_is_refused_in_one_message(folder, name):
    path = folder / name
    before = (folder / "report.html").read_bytes()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=re.escape(str(path))) as refused:
        write_page(folder)
    assert "\n" not in str(refused.value)
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".*partial"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", '{"aggregate": "hello"}'),
        ("metrics.json", "[1, 2]"),
        ("data.json", '{"cells": "many"}'),
        ("environment.json", '"a word"'),
        ("recovery.json", '{"cosine": "high"}'),
        ("config/config.yaml", "a: [1"),
        ("config/config.yaml", "- 1"),
        ("config/overrides.yaml", "a: 1"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_message(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(str(folder / name))):
        write_page(folder)


def test_tables_and_frames_that_a_run_did_not_write_are_refused(folder):
    pd.DataFrame({"a": [1]}).to_parquet(folder / "metrics.parquet")
    with pytest.raises(DataError, match="lacks model, metric, perturbation"):
        write_page(folder)
    (folder / "metrics.parquet").unlink()
    anndata.AnnData(np.zeros((2, 2))).write_h5ad(folder / "predictions.h5ad")
    with pytest.raises(DataError, match="no evaluation frame"):
        write_page(folder)


def test_hostile_names_show_as_text(folder):
    evil, gene, model = "<script>alert(1)</script>", '<img src="x" onerror=alert(2)>', "<i onload=alert(3)>"
    frame = anndata.read_h5ad(folder / "predictions.h5ad")
    first = next(name for name in frame.obs["perturbation"].astype(str) if "+" not in name)
    for name in ("metrics.parquet", "split.parquet"):
        table = pd.read_parquet(folder / name)
        table["perturbation"] = table["perturbation"].astype(str).replace(first, evil)
        if "model" in table:
            table["model"] = table["model"].replace("nbglm", model)
        table.to_parquet(folder / name)
    frame.obs["perturbation"] = frame.obs["perturbation"].astype(str).replace(first, evil)
    frame.var_names = [gene, *frame.var_names[1:]]
    frame.layers["truth"][:, 0] += 9.0  # so that its name is drawn
    frame.uns["model"] = model
    frame.write_h5ad(folder / "predictions.h5ad")
    text = (folder / "metrics.json").read_text()
    (folder / "metrics.json").write_text(text.replace("nbglm", model))
    changed(folder / "data.json", lambda data: data["notes"].update(file='"><script>alert(4)</script>'))
    (folder / "config" / "overrides.yaml").write_text("- '</pre><script>alert(5)</script>'\n")
    found = Page(write_page(folder))
    assert len(found.named("script")) == 1
    assert not found.named("img")
    assert not found.named("i")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    for said in (evil, '<img src="x"', model, "alert(4)", "alert(5)"):
        assert said in found.text, said


def test_nothing_is_loaded_from_anywhere(page):
    assert not re.search(r"https?:", page.source)
    links = [value for _, seen in page.tags for key, value in seen.items() if key in ("src", "href", "xlink:href")]
    assert links
    assert {value for value in links if not value.startswith("#")} == {"data:,"}
    assert "default-src 'none'" in page.source


def test_references_within_figures_lead_to_one_place_each(page):
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', page.source)) <= set(ids)


def test_the_same_folder_gives_the_same_page(folder):
    first = write_page(folder).read_bytes()
    assert write_page(folder).read_bytes() == first
    assert len(first) < 1_500_000
    assert str(folder).encode() not in first


def test_an_untrusted_metric_is_marked_with_its_numbers(folder):
    def doubt(summary):
        row = next(row for row in summary["calibration"] if row["metric"] == "mse")
        row.update(trusted=False, bds=0.25, drf=-0.5)
        next(row for row in summary["calibration"] if row["metric"] == "wmse").update(trusted=False, bds=None, drf=None)

    changed(folder / "metrics.json", doubt)
    text = Page(write_page(folder)).text
    assert "not to be trusted: BDS 0.25, DRF −0.50" in text
    assert "cannot be checked: the replicate has no value" in text


def test_chosen_effects_are_those_of_the_frame(ran):
    run = read_screen(ran.folder)
    units = units_of(run, "mse", "train_mean")
    frame = run.frame
    table = run.per_unit
    for effect in effects_of(run, units, higher_is_better=False):
        row = [f"{name}" for name in frame.perturbation].index(effect.unit.label)
        observed = frame.truth[row] - frame.held_out_control[row]
        predicted = frame.predictions["nbglm"][row] - frame.control[row]
        assert effect.r == pytest.approx(np.corrcoef(observed, predicted)[0, 1])
        assert effect.unit.effect == pytest.approx(np.linalg.norm(observed))
        own = table[(table["model"] == "nbglm") & (table["metric"] == "mse")].set_index("perturbation")["value"]
        assert effect.unit.own == own[effect.unit.label]
        assert effect.unit.n_significant == (frame.de_fdr[row] < 0.05).sum()


def test_of_baselines_that_tie_the_first_is_best_as_in_the_verdict():
    column = Column("mse", "headline", False, 3)
    rows = [Row(name, "baseline", {"mse": Value(mean)}) for name, mean in [("a", 0.3), ("b", 0.1 + 0.2), ("c", 0.4)]]
    assert rows[1].values["mse"].mean != 0.3  # by rounding alone
    assert best_row(rows, column) is rows[0]
    assert best_row(rows[::-1], column) is rows[1]
    assert best_row([], column) is None


def test_units_are_ranked_in_the_direction_of_the_metric():
    units = [Unit(name, own, 0.0, 1.0, None) for name, own in [("a", 0.2), ("b", np.nan), ("c", 0.9), ("d", 0.2)]]
    assert ranked(units, higher_is_better=True) == [2, 0, 3]
    assert ranked(units, higher_is_better=False) == [0, 3, 2]


def compared(metric: str, outcome: str, **more) -> Comparison:
    return Comparison("m", "b", metric, 0.1, -0.1, 0.2, 9, outcome, over="9 perturbations", **more)


def test_sentences_are_sorted_by_what_they_say_and_are_about():
    found = verdict_of(
        "m",
        [
            compared("pearson_delta", "not different"),
            compared("mse", "better", trusted=False),
            compared("vcc2026/sig_jaccard", "worse"),
            compared("vcc2026/lfc_nmae", "not applicable"),
        ],
        {"c": "it would cheat"},
    )
    assert (found.lead.says, [one.says for one in found.same_family]) == ("even", ["better", "other"])
    assert found.lead.text == (
        "m does not beat b on pearson_delta: difference +0.100 [-0.100, 0.200] over 9 perturbations; the two cannot be "
        "told apart."
    )
    assert found.same_family[0].text.startswith("m beats b on mse (not to be trusted here: see the marks): difference")
    assert found.same_family[1].text == "c is shown and not counted: it would cheat."
    assert [one.says for one in found.further["vcc2026"]] == ["worse", "other"]
    assert found.tally("vcc2026") == "1 worse"
    assert verdict_of("m", [], {}).lead.text.startswith("No baseline was scored with m")


def test_families_stand_core_first_and_columns_that_apply_to_nothing_go():
    columns = [Column("x/a", "shown", True, 3), Column("b", "shown", True, 3), Column("c", "shown", False, 3)]
    rows = [
        Row("m", "model", {"x/a": Value(1.0), "b": Value(2.0), "c": Value(np.nan, n=0)}),
        Row("t", "baseline", {"x/a": Value(1.0), "b": Value(3.0), "c": Value(np.nan, n=0)}),
    ]
    tables = family_tables(columns, rows)
    assert [(table.family, [column.name for column in table.columns]) for table in tables] == [
        ("core", ["b"]),
        ("x", ["x/a"]),
    ]
    assert [row.values["x/a"].best for row in tables[0].rows] == [True, True]
    assert [row.values["b"].best for row in tables[0].rows] == [False, True]


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.12345, 3, "0.123"), (-0.5, 2, "−0.50"), (-0.0001, 2, "0.00"), (np.nan, 2, "n/a"), (None, 2, "n/a"),
     (-1234567.0, 1, "−1.23e+06")],
)  # fmt: skip
def test_numbers_read_well(value, decimals, text):
    assert number(value, decimals) == text


def test_a_name_breaks_only_where_it_may():
    assert str(breakable("<b>_x/y")) == "&lt;b&gt;_<wbr>x/<wbr>y"


def test_the_command_writes_a_page_again(folder):
    (folder / "report.html").unlink()
    assert report.report([str(folder)]) == folder / "report.html"
    assert (folder / "report.html").is_file()


def test_a_wrong_request_is_one_message_and_exit_code_two(folder, tmp_path, monkeypatch, capsys):
    (folder / "metrics.json").write_text('{"model": ')
    for words, said in [
        ([folder], "metrics.json cannot be read"),
        ([], "no folder was named"),
        ([tmp_path / "nowhere"], "is no folder"),
        ([folder / "config"], "no finished run"),
        ([folder, "out=page.txt"], "name an .html file"),
    ]:
        monkeypatch.setattr(sys, "argv", ["pertexp.report", *map(str, words)])
        with pytest.raises(SystemExit) as leaving:
            report.main()
        out = capsys.readouterr().err
        assert (leaving.value.code, out.count("\n")) == (2, 1), out
        assert said in out


def test_help_costs_no_heavy_import():
    probe = (
        "import sys; sys.argv = ['report', '--help']; from pertexp.report.__main__ import main; main(); "
        "import pertexp.run; "
        "print({'matplotlib', 'jinja2', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "a leaderboard" in done.stdout or "one leaderboard" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"
