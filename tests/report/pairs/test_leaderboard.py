"""Many runs on pairs on one page: lines and folds averaged, seeds averaged, beside screens where both are there."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import TINY, command
from omegaconf import OmegaConf
from one_answer import assert_one_answer
from pair_runs import on_pairs
from sklearn.metrics import average_precision_score

from pertexp.report.leaderboard import Board, Leaderboard, ShownTable, leaderboard_of
from pertexp.tasks.leaderboard import summary_of

pytestmark = pytest.mark.medium  # nearly every test trains several runs

UNUSED = ("gc_cpg", "composition", "element_length", "kmer_logistic", "kmer_boosting")
BARE = [f"~evaluation.baselines.{name}" for name in UNUSED]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """Two rates, two folds of one line and one of another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        ran = on_pairs("-m", "optimizer.lr=0.001,0.1", "data.split.line=line01,line02", "data.split.fold=0,1", "seed=0",
                       *BARE)  # fmt: skip
    assert ran.code == 0, ran.err
    return ran.folder.parent


@pytest.fixture
def sweep(done, tmp_path) -> Path:
    """A copy of the sweep with each job a second time as if of another seed, which ranks otherwise."""
    folder = Path(shutil.copytree(done, tmp_path / "sweep"))
    for job in sorted(path.parent for path in folder.glob("*/metrics.json")):
        other = Path(shutil.copytree(job, folder / f"{job.name[:-1]}-"))
        for name in ("config.yaml", "overrides.yaml"):
            text = (other / "config" / name).read_text()
            (other / "config" / name).write_text(text.replace("\nseed: 0\n", "\nseed: 1\n").replace("seed=0", "seed=1"))
        table = pd.read_parquet(other / "predictions.parquet")
        own = table["model"] == "gc_stand_in"
        table.loc[own, "probability"] = np.random.default_rng(0).random(own.sum())
        # Another order of rows: what was said of a pair belongs to the pair.
        table.sample(frac=1, random_state=0).sort_values("model", kind="stable").to_parquet(
            other / "predictions.parquet"
        )
    return folder


def page_of(*folders: Path) -> Leaderboard:
    summary = summary_of(folders)
    shown = [ShownTable(one.table, one.text) for one in summary.tables]
    return leaderboard_of(folders[0] / "report.html", shown, summary.refused, "here")


def own_rows(board: Board):
    return [row for row in board.families[0].rows if row.kind == "model"]


def by_hand(folder: Path, rate: float, seed: int, model: str = "gc_stand_in") -> float:
    """Mean over lines of the mean over folds, straight from the files."""
    values = {}
    for path in folder.glob("*/config/config.yaml"):
        config = OmegaConf.load(path)
        if (config.optimizer.lr, config.seed) == (rate, seed):
            table = pd.read_parquet(path.parents[1] / "predictions.parquet")
            for cell, part in table[table["model"] == model].groupby(["cell_line", "fold"]):
                values[cell] = average_precision_score(part["label"], part["probability"])
    assert len(values) == 4
    return pd.Series(values).groupby(level=0).mean().mean()


def test_a_sweep_ends_with_its_leaderboard_and_every_job_with_its_page(done):
    assert (done / "report.html").is_file()
    assert len(list(done.glob("*/report.html"))) == 8


def test_lines_folds_and_seeds_are_averaged(sweep):
    (board,) = page_of(sweep).boards
    assert sorted(row.words for row in own_rows(board)) == [("optimizer.lr=0.001",), ("optimizer.lr=0.1",)]
    for row in own_rows(board):
        means = [by_hand(sweep, float(row.words[0].partition("=")[2]), seed) for seed in (0, 1)]
        value = row.values["auprc"]
        assert value.mean == pytest.approx(np.mean(means), rel=1e-12)
        assert value.sd == pytest.approx(np.std(means, ddof=1), rel=1e-9)
        assert value.low < value.mean < value.high
    assert own_rows(board)[0].values["auprc"].mean >= own_rows(board)[1].values["auprc"].mean
    assert board.said.startswith("line01, line02, folds ")
    assert len(board.runs) == 16


def test_settings_are_compared_with_the_reference_pair_by_pair(sweep):
    (one,) = summary_of([sweep], reference="optimizer.lr=0.1").tables
    (found,) = one.comparisons
    assert (found.model, found.reference) == ("gc_stand_in optimizer.lr=0.001", "gc_stand_in optimizer.lr=0.1")
    gaps = [by_hand(sweep, 0.001, seed) - by_hand(sweep, 0.1, seed) for seed in (0, 1)]
    assert found.difference == pytest.approx(np.mean(gaps), abs=1e-12)
    assert found.low < found.difference < found.high


def test_console_files_and_page_say_the_same_over_folds_and_seeds(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    ran = on_pairs("-m", "optimizer.lr=0.001,0.1", "data.split.line=line01", "data.split.fold=0,1", "seed=0,1", *BARE,
                   "hydra.callbacks.sweep_table.reference='optimizer.lr=0.1'")  # fmt: skip
    assert ran.code == 0, ran.err
    comparisons = assert_one_answer(ran)
    assert set(comparisons["basis"]) == {"best baseline", "masked input", "setting"}


def test_equal_settings_cannot_be_told_apart(sweep):
    tables = {}
    for path in sorted(sweep.glob("*/config/config.yaml")):
        config, folder = OmegaConf.load(path), path.parents[1]
        key = config.seed, config.data.split.line, config.data.split.fold
        if key in tables:
            shutil.copy(tables[key] / "predictions.parquet", folder / "predictions.parquet")
        tables.setdefault(key, folder)
    ((found,),) = (one.comparisons for one in summary_of([sweep], reference="optimizer.lr=0.1").tables)
    assert (found.difference, found.low, found.high, found.outcome) == (0, 0, 0, "not different")


def test_a_constant_prediction_stands_at_one_half(sweep):
    (board,) = page_of(sweep).boards
    prevalence = next(row for row in board.families[0].rows if row.label == "prevalence")
    value = prevalence.values["auroc"]
    assert (value.mean, value.low, value.high) == (0.5, 0.5, 0.5)
    assert board.tiles[-1].what == "auprc by chance"
    assert float(board.tiles[-1].value) == pytest.approx(prevalence.values["auprc"].mean, abs=5e-4)


def test_each_row_says_what_it_is_and_masked_rows_stand_there_once(sweep):
    (board,) = page_of(sweep).boards
    kinds = {row.label: row.kind for row in board.families[0].rows if row.kind != "model"}
    assert kinds == {
        "gc_stand_in (enhancer only)": "masked", "gc_stand_in (promoter only)": "masked",
        "gc_stand_in (permuted support)": "masked", "prevalence": "baseline", "distance": "baseline",
        "promoter_rate": "baseline",
    }  # fmt: skip
    assert len(board.families[0].rows) == 2 + len(kinds)
    text = summary_of([sweep]).write_page(sweep / "report.html").read_text()
    assert "best of 2 settings, chosen on these units: gc_stand_in optimizer.lr=" in text
    assert "every unit is the mean over 2 seeds" in text
    assert "Masked rows are those of the best setting." in text
    assert "optimizer.lr" in re.findall(r"<figcaption>(.*?);", text)


def test_settings_on_other_pairs_stand_in_another_table(sweep):
    for path in sweep.glob("*/config/config.yaml"):
        config = OmegaConf.load(path)
        if config.optimizer.lr == 0.1 and config.data.split.line == "line02":
            shutil.rmtree(path.parents[1])
    boards = page_of(sweep).boards
    assert [board.said.split(",")[0] for board in boards] == ["line01", "line01"]
    assert sorted(len(board.runs) for board in boards) == [4, 8]
    assert {len(own_rows(board)) for board in boards} == {1}


def test_pairs_of_one_label_have_a_table_and_no_verdict(sweep):
    for path in sweep.glob("*/predictions.parquet"):
        pd.read_parquet(path).assign(label=1).to_parquet(path)
    (board,) = page_of(sweep).boards
    assert board.verdict.lead.text == "auprc is not applicable here: the pairs have one label alone."
    assert np.isnan(board.runs[0].value)
    assert "brier" in [column.name for column in board.families[0].columns]
    assert summary_of([sweep]).write_page(sweep / "report.html").is_file()


def test_runs_that_cannot_be_read_are_listed_with_the_reason(sweep):
    folders = sorted(path.parent for path in sweep.glob("*/metrics.json"))
    (folders[0] / "predictions.parquet").write_bytes(b"PAR1")
    (folders[1] / "metrics.json").write_text("{")
    (folders[2] / "predictions.parquet").unlink()
    table = pd.read_parquet(folders[3] / "predictions.parquet")
    table[table["model"] != "gc_stand_in"].to_parquet(folders[3] / "predictions.parquet")
    reasons = {run.name: run.note for run in page_of(sweep).refused}
    for folder, said in zip(folders, ("cannot be read", "cannot be read", "holds no predictions.parquet",
                                      "holds no prediction of gc_stand_in"), strict=False):  # fmt: skip
        assert said in reasons[folder.name]


def test_screens_and_pairs_stand_on_one_page_in_tables_of_their_own(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path / "outputs"))
    screen = command(*TINY, "trainer.max_epochs=1")
    assert screen.code == 0, screen.err
    out = tmp_path / "both.html"
    boards = page_of(sweep, screen.folder).boards
    assert sorted((board.title, board.primary.name) for board in boards) == [
        ("simulated_pairs", "auprc"),
        ("simulated_screen", boards[1].primary.name),
    ]
    text = summary_of([sweep, screen.folder]).write_page(out).read_text()
    assert "truth and replicate aside" in text
    assert "each fold has a model of its own" in text
