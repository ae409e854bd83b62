"""Many runs on pairs on one page: lines and folds averaged, seeds averaged, beside screens where both are there."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import TINY, command
from omegaconf import OmegaConf
from sklearn.metrics import average_precision_score
from test_pairs_run import on_pairs

from pertexp.errors import DataError
from pertexp.evaluation.against import against_reference
from pertexp.evaluation.results.gathering import find_runs, gather
from pertexp.report.leaderboard import Board, Leaderboard, leaderboard_of, write_leaderboard
from pertexp.runs.jobs import Job, finished_jobs

BARE = [f"~evaluation.baselines.{name}" for name in ("kmer_boosting", "gc_cpg")]


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
    runs, failed = find_runs(folders)
    return leaderboard_of(gather(runs), failed, folders[0] / "report.html", "here")


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


def test_settings_are_held_against_the_reference_pair_by_pair(done, sweep):
    (row,) = against_reference(finished_jobs(done), "optimizer.lr=0.1", "auprc").to_dict("records")
    assert row["optimizer.lr"] == "0.001"
    assert row["difference"] == pytest.approx(by_hand(done, 0.1, 0) - by_hand(done, 0.001, 0), abs=1e-12)
    assert row["low"] < row["difference"] < row["high"]
    (equal,) = against_reference(twins(done), "optimizer.lr=0.1", "auprc").to_dict("records")
    assert (equal["difference"], equal["low"], equal["high"]) == (0, 0, 0)
    assert equal["reference"] == "cannot be told apart"
    with pytest.raises(DataError, match="was scored on other pairs than"):
        against_reference(finished_jobs(done)[1:], "optimizer.lr=0.1", "auprc")


def twins(folder: Path) -> list[Job]:
    """The jobs of one rate, and the same as if they were of the other."""
    jobs = [job for job in finished_jobs(folder) if job.overrides["optimizer.lr"] == "0.1"]
    return [*jobs, *(Job(job.folder, job.overrides | {"optimizer.lr": "0.001"}) for job in jobs)]


def test_what_knows_nothing_stands_at_one_half(sweep):
    (board,) = page_of(sweep).boards
    prevalence = next(row for row in board.families[0].rows if row.label == "prevalence")
    value = prevalence.values["auroc"]
    assert (value.mean, value.low, value.high) == (0.5, 0.5, 0.5)
    assert board.tiles[-1].what == "auprc of what knows nothing"
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
    text = write_leaderboard([sweep], sweep / "report.html").read_text()
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
    assert write_leaderboard([sweep], sweep / "report.html").is_file()


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
    text = write_leaderboard([sweep, screen.folder], out).read_text()
    assert "the replicate aside" in text
    assert "each fold has a model of its own" in text
