"""The page of a run on pairs: all that its folder says, from the folder alone, whatever lies in it."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from command import Ran
from pages import CURVES, Page, changed
from pair_runs import on_pairs
from sklearn.metrics import average_precision_score

from pertexp.config.errors import DataError
from pertexp.report.pairs.reading import read_pairs
from pertexp.report.sentences import sentence
from pertexp.report.tables import interval, number, signed, significant
from pertexp.runs.reading import read_metrics
from pertexp.runs.schema import PairMetrics
from pertexp.tasks.pairs import PAIRS
from pertexp.tasks.registry import write_page

pytestmark = pytest.mark.medium

OPTIONAL = {
    "predictions.parquet": "predictions.parquet is not in the folder",
    "split.parquet": "split.parquet is not in the folder",
    "data.json": "data.json is not in the folder",
    "environment.json": "environment.json is not in the folder",
    "config/config.yaml": "config/config.yaml is not in the folder",
    "config/overrides.yaml": "config/overrides.yaml is not in the folder",
    "logs/metrics.csv": "logs/metrics.csv is not in the folder",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Ran:
    """Three lines tested in one fold, and a baseline that is not counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = on_pairs("data/split=chromosome", "~evaluation.baselines.kmer_boosting", "tags=[first]")
    assert done.code == 0, done.err
    aside = "they <b>cheat</b> here"
    changed(done.folder / "metrics.json", lambda found: found["roles"].update(distance="not counted"))
    changed(done.folder / "metrics.json", lambda found: found["not_counted"].update(distance=aside))
    CURVES.to_csv(done.folder / "logs" / "metrics.csv", index=False)
    write_page(done.folder)
    return done


@pytest.fixture
def folder(ran, tmp_path) -> Path:
    return Path(shutil.copytree(ran.folder, tmp_path / "12-34-56-000000_gc_stand_in_simulated_pairs"))


@pytest.fixture(scope="module")
def page(ran) -> Page:
    return Page(ran.folder / "report.html")


@pytest.fixture(scope="module")
def document(ran) -> dict:
    return json.loads((ran.folder / "metrics.json").read_text())


def test_the_page_says_what_the_folder_says(ran, page, document):
    data = json.loads((ran.folder / "data.json").read_text())
    environment = json.loads((ran.folder / "environment.json").read_text())
    verdict = [sentence(found) for found in read_metrics(ran.folder, PairMetrics).verdict]
    assert page.text.index(verdict[0]) < page.text.index("Scores")
    for said in (
        *verdict, *document["notes"], document["bootstrap"]["over"], data["split_hash"], data["tests"],
        environment["packages"]["torch"], "tags=[first]", f"repeat={ran.folder.name}", "450 pairs of",
    ):  # fmt: skip
        assert said in page.text, said
    sections = [attributes["id"] for attributes in page.named("section")]
    assert sections == ["verdict", "scores", "ranking", "criteria", "gap", "curves", "split", "data", "config",
                        "environment", "repeat"]  # fmt: skip
    assert "absent" not in [
        attributes.get("class") for attributes in page.named("p") if "data-nothing" not in attributes
    ]


def test_every_section_is_shown_on_a_full_run(ran):
    shown = PAIRS.page.shown(read_pairs(ran.folder))
    assert {section.id for section in PAIRS.page.sections} < {section.id for section in shown}
    assert all(section.content for section in shown)


def test_the_table_holds_the_numbers_of_metrics_json_and_says_who_is_who(page, document):
    metrics = [attributes["data-metric"].split()[0] for attributes in page.named("th") if "data-metric" in attributes]
    for row in document["aggregate"]:
        cell = page.row(row["model"])[metrics.index(row["metric"])]
        assert float(cell["data-value"]) == row["mean"]
    kinds = {seen["data-row"]: seen["class"] for tag, seen in page.tags if tag == "tr" and "data-row" in seen}
    expected = {name: role.replace("not counted", "aside") for name, role in document["roles"].items()}
    assert kinds == expected
    assert "not counted: they <b>cheat</b> here" in page.text
    own = document["aggregate"][0]
    assert interval(own["low"], own["high"]) in page.text
    assert f"the share of positives, {number(own['prevalence'])}" in page.text


def test_the_best_is_marked_among_those_that_compete(page, document):
    rows = [row for row in document["aggregate"] if row["metric"] == "auprc"]
    counted = [row for row in rows if document["roles"][row["model"]] in ("model", "baseline")]
    best = max(row["mean"] for row in counted)
    marked = {row["model"] for row in rows if "best" in (page.row(row["model"])[0].get("class") or "")}
    assert marked == {row["model"] for row in counted if row["mean"] == pytest.approx(best, rel=1e-12)}


def test_lines_stand_beside_their_pooled_value_with_their_prevalence(page, document):
    own = [row for row in document["by_line"] if (row["model"], row["metric"]) == ("gc_stand_in", "auprc")]
    assert len(own) == 3
    for row in own:
        assert f"{row['cell_line']} ({row['n']} pairs, {100 * row['prevalence']:.0f} % positive)" in page.text
        assert number(row["value"]) in page.text
    pooled = document["pooled"][0]
    assert page.text.index("All pairs at once") < page.text.rindex(number(pooled["value"]))
    assert "No value of a model" in page.text


def test_folds_are_shown_where_a_line_has_several(folder):
    def second(summary):
        summary["by_fold"] += [{**row, "fold": 1} for row in summary["by_fold"]]

    changed(folder / "metrics.json", second)
    text = Page(write_page(folder)).text
    assert "line01, fold 1 (" in text
    assert "Each line was tested in one fold" not in text


def test_figures_are_drawn_from_the_predictions_line_by_line(ran, page):
    table = pd.read_parquet(ran.folder / "predictions.parquet")
    labels = [attributes.get("aria-label") or "" for attributes in page.named("svg")]
    for line, part in table[table["model"] == "gc_stand_in"].groupby("cell_line"):
        value = average_precision_score(part["label"], part["probability"])
        assert f"gc_stand_in: AUPRC {number(value)}" in page.text
        assert f"{line}: precision over recall; positives {part['label'].mean():.0%}" in labels


def test_criteria_stand_with_chance_beside_them(ran, page, document):
    classes = {seen.get("class") for tag, seen in page.tags if tag == "tr"}
    found = document["success_criteria"]
    assert {"pass" if one["passed"] else "fail" for one in found if one["passed"] is not None} <= classes
    assert "unmeasured" in classes
    for one in found:
        assert one["text"] in page.text
        assert significant(one["value"]) in page.text
    gap = read_metrics(ran.folder, PairMetrics).generalisation
    assert f"From training to test: {signed(gap.train.auprc - gap.test.auprc)}" in page.text
    assert f"{signed(gap.train.prevalence - gap.test.prevalence)} by chance" in page.text
    assert number(document["support_draws"]["auprc"]["max"]) in page.text


def test_every_logged_quantity_has_a_panel(page):
    labels = [attributes.get("aria-label") or "" for attributes in page.named("svg")]
    shown = " ".join(labels)
    for name in set(CURVES) - {"step", "epoch", "train/loss", "resistance/line10"}:
        assert name in shown, name
    assert "resistance/line10" not in shown  # nothing of it was logged
    assert "loss in training and on validation over optimiser steps" in labels
    assert "line02" in page.source[page.source.index("Resistance by cell line") :]  # line 1 by its name


def test_the_split_is_counted_by_line(ran, page):
    split = pd.read_parquet(ran.folder / "split.parquet")
    roles = [role for role in ("train", "val", "test", "excluded") if (split["fold0"] == role).any()]
    shown = page.source[page.source.index('<section id="split">') :]
    for line, part in split.groupby("cell_line", observed=True):
        cells = re.search(rf'<th scope="row">{line}</th>(.*?)</tr>', shown)[1]
        assert re.findall(r"<td>(\d+)</td>", cells) == [str((part["fold0"] == role).sum()) for role in roles]


@pytest.mark.parametrize("missing", OPTIONAL)
def test_a_missing_file_is_said_in_its_section(folder, missing):
    (folder / missing).unlink()
    found = Page(write_page(folder))
    assert OPTIONAL[missing] in found.text
    assert "gc_stand_in on" in found.text


def test_metrics_json_alone_makes_a_page_with_what_every_run_has(folder):
    for path in list(folder.iterdir()):
        if path.name != "metrics.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = ("format", "task", "predicts", "model", "primary", "scale", "aggregate", "verdict", "roles", "not_counted")
    changed(folder / "metrics.json", lambda found: [found.pop(key) for key in set(found) - set(kept)])
    found = Page(write_page(folder))
    assert found.text.count("not in the folder") >= 6
    assert len(found.row("prevalence")) > 5
    shown = PAIRS.page.shown(read_pairs(folder))
    assert {section.id for section in PAIRS.page.sections} < {section.id for section in shown}
    for section in shown:
        assert section.content or section.absent in found.text
    assert "names no success criteria" in found.text
    assert "no support sets" in found.text


@pytest.mark.parametrize(
    "name", ["metrics.json", "predictions.parquet", "split.parquet", "data.json", "environment.json"]
)
def test_a_file_that_is_cut_off_is_refused_in_one_message(folder, name):
    path = folder / name
    before = (folder / "report.html").read_bytes()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=re.escape(str(path))) as refused:
        write_page(folder)
    assert "\n" not in str(refused.value)
    assert (folder / "report.html").read_bytes() == before


@pytest.mark.parametrize(("name", "text"), [
    ("metrics.json", '{"format": 4, "task": "pairs", "model": "m", "primary": "auprc", "scale": "", "roles": 1}'),
    ("metrics.json", '{"format": 4, "task": "pears", "model": "m", "primary": "auprc", "scale": "", "aggregate": []}'),
    ("data.json", '{"lines": "many"}'),
])  # fmt: skip
def test_a_file_of_another_kind_is_refused_in_one_message(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(str(folder))):
        write_page(folder)


@pytest.mark.parametrize(("change", "said"), [
    (lambda table: table.drop(columns="label"), "lacks label"),
    (lambda table: table.assign(label=2), "labels other than 0 and 1"),
    (lambda table: table.assign(probability=1.5), "no probability"),
    (lambda table: pd.concat([table, table]), "holds a pair twice"),
    (lambda table: table.iloc[1:], "not all pairs of every model"),
    (lambda table: table.assign(fold="x"), "no numbers where a run writes some"),
])  # fmt: skip
def test_predictions_that_no_run_wrote_are_refused(folder, change, said):
    change(pd.read_parquet(folder / "predictions.parquet")).to_parquet(folder / "predictions.parquet")
    with pytest.raises(DataError, match=said):
        write_page(folder)


def test_hostile_names_show_as_text(folder):
    evil, model = "<script>alert(1)</script>", "<i onload=alert(3)>"
    for name in ("predictions.parquet", "split.parquet"):
        table = pd.read_parquet(folder / name)
        table["cell_line"] = table["cell_line"].astype(str).replace("line01", evil)
        if "model" in table:
            table["model"] = table["model"].astype(str).str.replace("gc_stand_in", model)
        table.to_parquet(folder / name)
    for name in ("metrics.json", "data.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("gc_stand_in", model).replace("line01", evil))
    found = Page(write_page(folder))
    assert len(found.named("script")) == 1
    assert not found.named("i")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert evil in found.text
    assert model in found.text


def test_nothing_is_loaded_from_anywhere_and_references_lead_to_one_place(page):
    assert not re.search(r"https?:", page.source)
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', page.source)) <= set(ids)


def test_the_same_folder_gives_the_same_page(folder):
    first = write_page(folder).read_bytes()
    assert write_page(folder).read_bytes() == first
    assert len(first) < 1_500_000
    assert str(folder).encode() not in first
