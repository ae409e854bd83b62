"""Many runs on one page: pooled, averaged, side by side only where it is fair, and nothing dropped in silence."""

import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from command import TINY, command
from omegaconf import OmegaConf

from pertexp.config.errors import RequestError
from pertexp.evaluation.results.finding import find_runs
from pertexp.evaluation.results.settings import gather
from pertexp.report.__main__ import report
from pertexp.report.leaderboard import Leaderboard, ShownTable, leaderboard_of
from pertexp.tasks.leaderboard import summary_of
from pertexp.tasks.registry import read_results

pytestmark = pytest.mark.medium  # nearly every test trains several runs

SHORT = (*TINY, "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two ranks, two folds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        ran = command("-m", *SHORT, "optimizer.lr=0.05", "model.rank=2,8", "data.split.fold=0,1", "seed=0")
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture
def sweep(done, tmp_path) -> Path:
    """A copy of the sweep, times and all, with each job a second time as if of another seed."""
    folder = Path(shutil.copytree(done.folder.parent, tmp_path / "sweep"))
    for job in sorted(path.parent for path in folder.glob("*/metrics.json")):
        other = Path(shutil.copytree(job, folder / f"{job.name[:-1]}-"))
        config = (other / "config" / "config.yaml").read_text()
        (other / "config" / "config.yaml").write_text(config.replace("\nseed: 0\n", "\nseed: 1\n"))
        words = (other / "config" / "overrides.yaml").read_text()
        (other / "config" / "overrides.yaml").write_text(words.replace("seed=0", "seed=1"))
        table = pd.read_parquet(other / "metrics.parquet")
        table.loc[table["model"] == "nbglm", "value"] *= 0.9
        table.to_parquet(other / "metrics.parquet")
    return folder


def board_of(folder: Path) -> Leaderboard:
    summary = summary_of([folder])
    shown = [ShownTable(one.table, one.text) for one in summary.tables]
    return leaderboard_of(folder / "report.html", shown, summary.refused, "here")


def values(folder: Path, rank: int, seed: int, metric: str = "pearson_delta") -> np.ndarray:
    """Values of the model on every unit, straight from the files."""
    found = []
    for path in folder.glob("*/config/config.yaml"):
        config = OmegaConf.load(path)
        if (config.model.rank, config.seed) == (rank, seed):
            table = pd.read_parquet(path.parents[1] / "metrics.parquet")
            found.append(table[(table["model"] == "nbglm") & (table["metric"] == metric)]["value"].to_numpy())
    return np.concatenate(found)


def test_a_sweep_ends_with_its_leaderboard_and_every_job_with_its_page(done):
    folder = done.folder.parent
    assert f"page: {folder / 'report.html'}" in done.out
    assert len(list(folder.glob("*/report.html"))) == 4


def test_folds_are_pooled_and_seeds_averaged(sweep):
    (board,) = board_of(sweep).boards
    own = [row for row in board.families[0].rows if row.kind == "model"]
    assert sorted(row.words for row in own) == [("model.rank=2",), ("model.rank=8",)]
    for row in own:
        rank = int(row.words[0].partition("=")[2])
        means = [values(sweep, rank, seed).mean() for seed in (0, 1)]
        value = row.values["pearson_delta"]
        assert value.mean == pytest.approx(np.mean(means))
        assert value.sd == pytest.approx(np.std(means, ddof=1))
        assert value.low < value.mean < value.high
    assert own[0].values["pearson_delta"].mean > own[1].values["pearson_delta"].mean
    assert "trainer.max_epochs=1" in board.shared


def test_baselines_and_the_replicate_stand_there_once(sweep):
    (board,) = board_of(sweep).boards
    labels = [row.label for row in board.families[0].rows if row.kind != "model"]
    assert sorted(labels) == sorted(set(labels))
    assert {"no_change", "train_mean", "additive", "bilinear_ridge", "knn", "replicate"} <= set(labels)
    assert labels[-1] == "replicate"


def test_the_choice_among_settings_is_said_beside_the_verdict(sweep):
    text = summary_of([sweep]).write_page(sweep / "report.html").read_text()
    assert "best of 2 settings, chosen on these units: nbglm model.rank=" in text
    assert "model.rank" in re.findall(r"<figcaption>(.*?);", text)
    assert "s.d. over 2 seeds" in text
    assert "every unit is the mean over 2 seeds" in text


def test_links_lead_to_the_pages_of_the_runs(sweep, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for out in (sweep / "report.html", tmp_path / "elsewhere" / "board.html"):
        text = report([str(sweep), f"out={out}"]).read_text()
        links = [unquote(link) for link in re.findall(r'href="([^"#]*report\.html)"', text)]
        assert len(links) == 8
        assert all((out.parent / link).is_file() for link in links)
    assert not re.search(r"https?:", text)


def test_settings_on_other_units_stand_in_another_table(sweep):
    for path in sweep.glob("*/config/config.yaml"):
        config = OmegaConf.load(path)
        if (config.model.rank, config.data.split.fold) == (2, 1):
            shutil.rmtree(path.parents[1])
    boards = board_of(sweep).boards
    assert sorted(len(board.runs) for board in boards) == [2, 4]
    assert [board.said.split(",")[0] for board in boards] == ["folds 0", "fold 0"]


def test_a_seed_without_all_folds_is_left_out_and_listed(sweep):
    for path in sweep.glob("*/config/config.yaml"):
        config = OmegaConf.load(path)
        if (config.model.rank, config.data.split.fold, config.seed) == (2, 1, 1):
            shutil.rmtree(path.parents[1])
    found = board_of(sweep)
    assert len(found.boards[0].runs) == 6
    assert ["seed 1 of this setting lacks folds" in run.note for run in found.refused] == [True]


def test_an_earlier_run_of_the_same_is_not_counted_twice(sweep, tmp_path):
    first = next(sweep.glob("*/metrics.json")).parent
    again = Path(shutil.copytree(first, tmp_path / "again"))
    runs, _ = find_runs([sweep, again])
    found = gather(runs, read_results)
    assert sum(len(setting.runs) for setting in found.settings) == 8
    assert ["a later run of the same" in refused.reason for refused in found.refused] == [True]


def test_runs_that_cannot_be_read_are_listed_with_the_reason(sweep):
    folders = sorted(path.parent for path in sweep.glob("*/metrics.json"))
    (folders[0] / "metrics.parquet").write_bytes(b"PAR1")
    (folders[1] / "metrics.json").write_text("{")
    (folders[2] / "metrics.json").unlink()
    table = pd.read_parquet(folders[3] / "metrics.parquet")
    table.astype({"value": str}).replace({"value": r".*"}, "much", regex=True).to_parquet(
        folders[3] / "metrics.parquet"
    )
    (folders[2] / "failure.json").write_text(json.dumps({"wrong_request": True, "message": "no <b>such</b> thing"}))
    text = summary_of([sweep]).write_page(sweep / "report.html").read_text()
    assert "metrics.parquet cannot be read" in text
    assert "metrics.json cannot be read" in text
    assert "failed: no &lt;b&gt;such&lt;/b&gt; thing" in text
    assert "holds no numbers where a run writes some" in text
    assert all(folder.name in text for folder in folders[:4])


def test_runs_that_did_not_finish_or_are_stale_are_listed(sweep):
    folders = sorted(path.parent for path in sweep.glob("*/metrics.json"))
    (folders[0] / "metrics.json").unlink()
    (folders[1] / "config" / "hydra.yaml").touch()
    os.utime(folders[2] / "config" / "hydra.yaml", (0, 0))  # as if written before the sweep was called again
    left = {refused.folder: refused.reason for refused in find_runs([sweep])[1]}
    assert left == {
        folders[0]: "not finished: no metrics.json",
        folders[2]: "not counted: an earlier call of this sweep, under other defaults",
    }


def test_one_run_among_many_paths_is_taken_once(sweep):
    first = next(sweep.glob("*/metrics.json")).parent
    assert len(find_runs([first, sweep])[0]) == 8


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no finished run"):
        find_runs([tmp_path])


def test_what_was_scored_without_training_is_set_apart_by_what_it_was(sweep, tmp_path):
    """Two checkpoints under one configuration of `pertexp.evaluate`: neither is a later run of the other."""
    job = next(sweep.glob("*/metrics.json")).parent
    folders = [Path(shutil.copytree(job, tmp_path / "evaluations" / name)) for name in ("a", "b")]
    for folder in folders:
        (folder / "config" / "config.yaml").write_text(f"data:\n  name: screen\nckpt: runs/{folder.name}\nseed: 0\n")
    found = gather(folders, read_results)
    assert not found.refused
    assert [len(setting.runs) for setting in found.settings] == [1, 1]
    assert {setting.runs[0].data_name for setting in found.settings} == {"simulated"}
