"""A sweep ends with one table, whatever became of its jobs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from command import TINY, Ran, command
from omegaconf import OmegaConf
from one_answer import assert_one_answer
from places import ROOT

from pertexp.config.errors import DataError
from pertexp.evaluation.results.tables import ResultsTable, tables_of
from pertexp.evaluation.screens.measuring import pooled as joined
from pertexp.evaluation.screens.measuring import stored
from pertexp.report.__main__ import report
from pertexp.report.sentences import short
from pertexp.runs.jobs import finished_jobs
from pertexp.tasks.leaderboard import Compared, summary_of

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("outputs")]  # nearly every test trains several runs

CONF = ROOT / "conf"
ONE_EPOCH = (*TINY, "trainer.max_epochs=1")


def sweep(*words: str) -> Ran:
    return command("-m", *ONE_EPOCH, *words)


def table_of(done: Ran) -> pd.DataFrame:
    return pd.read_csv(done.folder)


def correlation(found: anndata.AnnData) -> np.ndarray:
    """Of predicted effects, against fitted controls, with true ones, against held-out controls."""
    true = found.layers["truth"] - found.layers["held_out_control"]
    pairs = zip(found.X - found.layers["control"], true, strict=True)
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs])


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Two ranks, five folds, two seeds: twenty jobs in one command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = command(
            "-m", *ONE_EPOCH, "data.batch_size=64", "optimizer.lr=0.05",
            "model.rank=8,32", "data.split.fold=0,1,2,3,4", "seed=0,1",
            'hydra.callbacks.sweep_table.reference="model.rank=32"',
        )  # fmt: skip
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def pooled(grid):
    """By rank and seed: the predictions of all five folds, one beneath the other, read straight from the files."""
    parts: dict[tuple[str, str], list[anndata.AnnData]] = {}
    for folder in grid.folder.parent.glob("*/predictions.h5ad"):
        config = OmegaConf.load(folder.parent / "config" / "config.yaml")
        parts.setdefault((str(config.model.rank), str(config.seed)), []).append(anndata.read_h5ad(folder))
    return {key: anndata.concat(found) for key, found in parts.items()}


def test_twenty_jobs_one_table(grid, pooled):
    table = table_of(grid)
    own = table[table["role"] == "model"]
    assert sorted(own["model.rank"]) == [8, 32]
    assert set(own["folds"]) == {5}
    assert set(own["seeds"]) == {2}
    assert {len(found) for found in pooled.values()} == {15}  # every perturbation tested once


def test_folds_are_pooled_before_they_are_averaged(grid, pooled):
    table = table_of(grid).set_index("model.rank")
    for rank in ("8", "32"):
        mse, pearson = [], []
        for seed in ("0", "1"):
            found = pooled[rank, seed]
            mse.append(((found.X - found.layers["truth"]) ** 2).mean())
            pearson.append(correlation(found).mean())
        row = table.loc[float(rank)]
        assert row["mse"] == pytest.approx(np.mean(mse), rel=1e-12)
        assert row["mse_sd"] == pytest.approx(abs(mse[0] - mse[1]) / np.sqrt(2), rel=1e-9)
        assert row["pearson_delta"] == pytest.approx(np.mean(pearson), rel=1e-10)
        assert row["pearson_delta_sd"] == pytest.approx(abs(pearson[0] - pearson[1]) / np.sqrt(2), rel=1e-7)


def test_best_first_and_every_baseline_once(grid):
    table = table_of(grid)
    own = table[table["role"] == "model"]
    assert own["pearson_delta"].is_monotonic_decreasing
    baselines = OmegaConf.load(CONF / "evaluation" / "screens.yaml").baselines
    assert list(table["role"]) == ["model"] * 2 + ["baseline"] * len(baselines) + ["truth", "replicate"]
    assert list(table["model"][2:]) == [*baselines, "truth", "replicate"]
    assert table["model.rank"][2:].isna().all()


def test_the_table_is_on_the_console(grid):
    assert "20 jobs on simulated_screen, folds together, mean ± s.d. over seeds, best pearson_delta first" in grid.out
    best = table_of(grid).iloc[0]
    assert f"{best['pearson_delta']:.4f} ± {best['pearson_delta_sd']:.3f}" in grid.out


def test_console_files_and_page_say_the_same_over_folds_and_seeds(grid):
    comparisons = assert_one_answer(grid)
    assert set(comparisons["basis"]) == {"best baseline", "setting"}


def test_a_learning_rate_is_chosen_on_validation_fold_by_fold():
    """The validation metric is that of the epoch that was kept: the lowest of those that were logged."""
    words = ("optimizer.lr=0.001,0.05", "data.split.fold=0,1", "trainer.max_epochs=3", "model.start.kind=zero")
    chosen = ("hydra.callbacks.sweep_table.choose=val/loss", "hydra.callbacks.sweep_table.over=[optimizer.lr]")
    done = command("-m", *TINY, *words, *chosen)
    assert (done.code, done.err) == (0, "")
    best: dict[int, tuple[float, float]] = {}
    for path in sorted(done.folder.parent.glob("*/metrics.json")):
        config = OmegaConf.load(path.parent / "config" / "config.yaml")
        logged = pd.read_csv(path.parent / "logs" / "metrics.csv")["val/loss"].min()
        kept = json.loads(path.read_text())["validation"]["val/loss"]
        assert kept == pytest.approx(logged, rel=1e-6)
        best[config.data.split.fold] = min(best.get(config.data.split.fold, (np.inf, 0.0)), (kept, config.optimizer.lr))
    own = table_of(done).query("role == 'model'")
    assert len(own) == 1
    if best[0][1] == best[1][1]:
        assert own["chosen"].item() == f"optimizer.lr={best[0][1]}"
    else:
        assert own["chosen"].item() == "; ".join(f"optimizer.lr={best[n][1]} (fold {n})" for n in (0, 1))
    assert "optimizer.lr chosen in each fold by val/loss, on validation units" in " ".join(done.out.split())
    again = report([str(done.folder.parent)])
    assert "optimizer.lr chosen in each fold by val/loss" in again.read_text()


def test_half_a_choice_is_refused_before_any_job(outputs):
    done = sweep("model.rank=2,3", "hydra.callbacks.sweep_table.choose=val/loss")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "hydra.callbacks.sweep_table.over go together" in done.err
    assert not list(outputs.rglob("metrics.json"))


def test_a_choice_between_losses_is_refused_with_what_to_do():
    chosen = ("hydra.callbacks.sweep_table.choose=val/loss", "hydra.callbacks.sweep_table.over=[loss]")
    done = sweep("loss=nb,mse", *chosen)
    assert done.code == 2
    assert "choose=val/loss cannot be compared over loss" in done.err


def compared(folder: Path, reference: str) -> Compared:
    """The one table of a sweep, compared with a reference."""
    (one,) = summary_of([folder], reference=reference).tables
    return one


def test_settings_are_compared_with_the_reference_unit_by_unit(grid, pooled):
    def per_unit(rank: str, seed: str) -> pd.Series:
        found = pooled[rank, seed]
        values = correlation(found)
        return pd.Series(values, index=found.obs["perturbation"].astype(str))

    gaps = [per_unit("8", seed) - per_unit("32", seed) for seed in ("0", "1")]  # by the names of the perturbations
    gap = ((gaps[0] + gaps[1]) / 2).to_numpy()
    table = pd.read_csv(grid.folder.parent / "comparison.csv")
    (row,) = table[table["basis"] == "setting"].to_dict("records")
    assert (row["model"], row["reference"]) == ("nbglm model.rank=8", "nbglm model.rank=32")
    assert (row["n"], row["over"]) == (15, "15 perturbations")
    assert row["difference"] == pytest.approx(gap.mean(), rel=1e-6)
    assert row["low"] < gap.mean() < row["high"]
    assert (row["high"] - row["low"]) / (2 * 1.96 * gap.std() / np.sqrt(15)) == pytest.approx(1, abs=0.25)
    assert row["outcome"] == ("better" if row["low"] > 0 else "worse" if row["high"] < 0 else "not different")
    assert "pearson_delta of every setting minus that of model.rank=32; paired over 15 perturbations" in grid.out
    assert re.search(rf"^ *nbglm model\.rank=8 +{re.escape(short(row['difference'], '+'))} \[", grid.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("model.rnak=8", r"model\.rnak was not swept; did you mean model\.rank\?"),
        ("model.rank=9", r"no finished job has model\.rank=9; known: 32, 8"),
        ("3", r"type hydra\.callbacks\.sweep_table\.reference="),
    ],
)
def test_a_reference_that_no_job_has_costs_the_table_nothing(grid, reference, message):
    one = compared(grid.folder.parent, reference)
    assert re.search(message, one.refused)
    assert (len(one.comparisons), len(one.table.settings)) == (0, 2)


def test_settings_on_other_units_are_not_compared(grid, tmp_path):
    copied = copy_of(grid.folder.parent, tmp_path)
    for path in copied.glob("*/config/config.yaml"):
        config = OmegaConf.load(path)
        if (config.model.rank, config.data.split.fold) == (8, 0):
            (path.parents[1] / "metrics.json").unlink()
    tables = summary_of([copied], reference="model.rank=32").tables
    assert all("was scored on the same units of the same data as" in one.refused for one in tables)
    assert len(tables) == 2


def copy_of(folder: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("reference", "written", "other"),
    [
        ("+optimizer.eps=1e-4", "0.0001", "0.001"),
        ("evaluation=[core]", "[core]", "[core,gears]"),
        ("model.name=a b", "'a b'", "c"),
    ],
)
def test_a_reference_is_what_it_means_and_not_how_it_is_typed(grid, reference, written, other):
    key = reference.lstrip("+").partition("=")[0]
    values = {"32": written, "8": other}
    table = compared(grid.folder.parent, "model.rank=8").table
    settings = [replace(one, overrides={key: values[one.overrides["model.rank"]]}) for one in table.settings]
    renamed: ResultsTable = replace(table, settings=settings, swept=[key])
    (found,) = renamed.with_reference(reference)
    assert (found.model, found.reference) == ("nbglm model.rank=8", "nbglm model.rank=32")


def test_values_in_brackets_stand_in_the_tables():
    done = sweep("evaluation=[core],[core,gears]", 'hydra.callbacks.sweep_table.reference="evaluation=[core]"')
    assert (done.code, done.err) == (0, "")
    assert "of every setting minus that of evaluation=[core]; paired over" in done.out
    assert re.search(r"evaluation=\[core,gears\] +\+0\.000 \[0\.000, 0\.000\] ", done.out)


def test_a_reference_that_is_a_number_costs_the_page_nothing(outputs):
    done = sweep("model.rank=2,3", "hydra.callbacks.sweep_table.reference=3")
    assert (done.code, done.err) == (0, "")
    assert "no comparison with 3: type" in done.out
    assert done.folder.with_name("report.html").is_file()


def test_a_sweep_may_be_asked_for_between_the_words():
    done = command(*ONE_EPOCH, "-m", "model.rank=2,3")
    assert (done.code, done.err) == (0, "")
    assert "2 jobs on simulated_screen, folds together" in done.out


def test_values_in_brackets_are_shown():
    done = sweep("evaluation=[core],[core,gears]")
    assert "[core,gears]" in done.out.split("folds together")[-1].split("best of")[0]


LOSSES = ("nb", "nb_deviance", "poisson_deviance", "mse", "mse_log1p", "mse_anscombe")


def test_six_losses():
    done = sweep(f"loss={','.join(LOSSES)}")
    assert done.code == 0, done.err
    own = table_of(done).query("role == 'model'")
    assert set(own["loss"]) == set(LOSSES)
    assert own["pearson_delta_sd"].isna().all()  # one seed has no spread


def test_dispersions():
    done = sweep("model.dispersion=moments,learned", "loss=nb")
    assert done.code == 0, done.err
    assert set(table_of(done).query("role == 'model'")["model.dispersion"]) == {"moments", "learned"}


def test_penalties():
    done = sweep("model.regularization.l1=0,1e-4,1e-3")
    assert done.code == 0, done.err
    assert set(table_of(done).query("role == 'model'")["model.regularization.l1"]) == {0, 1e-4, 1e-3}


def test_the_same_sweep_does_nothing_twice_and_still_ends_with_its_table():
    first = sweep("model.rank=2,3")
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.parent.glob("*/metrics.json")}
    second = sweep("model.rank=2,3")
    assert {path: path.stat().st_mtime_ns for path in second.folder.parent.glob("*/metrics.json")} == stamps
    assert second.folder == first.folder
    assert second.out.count("already done") == 2
    assert "2 jobs on simulated_screen, folds together" in second.out


def test_a_sweep_that_is_done_is_compared_with_a_reference_without_doing_it_again():
    first = sweep("model.rank=2,3")
    second = sweep("model.rank=2,3", 'hydra.callbacks.sweep_table.reference="model.rank=3"')
    assert second.folder == first.folder
    assert second.out.count("already done") == 2
    assert "of every setting minus that of model.rank=3; paired over" in second.out
    assert "setting" in set(pd.read_csv(second.folder.parent / "comparison.csv")["basis"])


def test_job_folders_are_named_by_what_was_composed_and_not_by_their_number():
    one = sweep("model.rank=2,3")
    other = sweep("model.rank=3,4")
    folders = [{path.parent.name for path in done.folder.parent.glob("*/metrics.json")} for done in (one, other)]
    assert len(folders[0] & folders[1]) == 1  # rank 3, second job of the one and first of the other
    assert len(folders[0] | folders[1]) == 3


def test_a_job_that_fails_costs_the_others_nothing():
    done = sweep("model.dispersion=moments,learned", "loss=nb_deviance,nb")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("pertexp: 1 of 4 jobs failed: loss=nb_deviance has no minimum in θ")
    assert len(table_of(done).query("role == 'model'")) == 3
    assert "3 jobs on simulated_screen, folds together" in done.out


def test_a_bug_in_one_job_shows_its_traceback_and_the_table_of_the_others(monkeypatch):
    from pertexp.models.nbglm.module import NBGLM

    predict = NBGLM.predict

    def fall_at_rank_two(self, units):
        if self.options.rank == 2:
            raise ZeroDivisionError("a bug of ours")
        return predict(self, units)

    monkeypatch.setattr(NBGLM, "predict", fall_at_rank_two)
    done = sweep("model.rank=2,3")
    assert done.code == 1
    assert "Traceback" in done.out
    assert "1 of 2 jobs failed: ZeroDivisionError: a bug of ours" in done.err
    assert "1 jobs on simulated_screen, folds together" in done.out


def test_a_failed_job_is_done_again(monkeypatch, outputs, recwarn):
    from pertexp.models.nbglm.module import NBGLM

    with monkeypatch.context() as patch:
        patch.setattr(NBGLM, "predict", lambda *_: 1 / 0)
        assert sweep("model.rank=2,3").code == 1
    done = sweep("model.rank=2,3")
    assert (done.code, done.err) == (0, "")
    assert [str(warning.message) for warning in recwarn if "is not empty" in str(warning.message)] == []
    assert not list(outputs.rglob("failure.json"))


def test_an_unknown_option_is_refused_before_any_job():
    done = sweep("model.rnk=1,2")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "did you mean model.rank?" in done.err


def test_jobs_of_an_earlier_sweep_under_other_defaults_stay_out_of_the_table(outputs):
    """As when a default changed between two calls of one command: the old jobs lie in the same folder."""
    first = sweep("model.rank=2,3")
    stale = next(path.parent for path in first.folder.parent.glob("*/metrics.json"))
    stale.rename(stale.with_name("ffffffffffff"))
    again = sweep("model.rank=2,3")
    assert "2 jobs on simulated_screen, folds together" in again.out
    assert len(finished_jobs(again.folder.parent)) == 2


def test_folds_with_genes_of_their_own_are_each_scored_on_theirs():
    done = sweep("data.n_top_genes=20", "data.split.fold=0,1")
    assert done.code == 0, done.err
    stored = [anndata.read_h5ad(path) for path in done.folder.parent.glob("*/predictions.h5ad")]
    assert set(stored[0].var_names) != set(stored[1].var_names)  # else this test shows nothing
    errors = [((found.X - found.layers["truth"]) ** 2).mean(axis=1) for found in stored]
    own = table_of(done).iloc[0]
    assert own["mse"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-12)


def test_one_fold_twice_cannot_be_pooled(grid):
    folder = next(grid.folder.parent.glob("*/metrics.json")).parent
    with pytest.raises(DataError, match="stands in several of the runs to pool"):
        joined([stored(folder, "x"), stored(folder, "x")])


def test_a_metric_that_is_better_when_lower_is_sorted_that_way(grid):
    settings = [one.setting for one in compared(grid.folder.parent, "model.rank=8").table.settings]
    for setting in settings:
        for run in setting.runs:
            object.__setattr__(run, "metrics", replace(run.metrics, primary="mse"))
    (table,) = tables_of(settings)
    assert table.primary == "mse"
    means = [row.values["mse"].mean for row in table.rows if row.role == "model"]
    assert means == sorted(means)


def test_the_primary_metric_of_the_table_is_that_of_the_evaluation():
    done = sweep("model.rank=2,3", "evaluation.primary=mae")
    assert "best mae first" in done.out
    assert table_of(done).query("role == 'model'")["mae"].is_monotonic_increasing


def test_settings_on_other_data_stand_in_tables_of_their_own():
    done = sweep("data.simulator.seed=0,1")
    table = table_of(done)
    assert sorted(table.loc[table["model"] == "bilinear_ridge", "table"]) == [1, 2]
    assert done.out.count("1 jobs on simulated_screen, folds together") == 2
    assert "best of" not in done.out.split("folds together")[-1]


def test_baselines_that_differ_between_settings_keep_their_setting():
    done = sweep("evaluation.baselines.knn.k=1,5")
    table = table_of(done)
    assert list(table.loc[table["model"] == "knn", "evaluation.baselines.knn.k"]) == [1, 5]
    assert len(table[table["model"] == "bilinear_ridge"]) == 1


def test_a_job_returns_its_value_also_when_it_was_done_before(monkeypatch):
    import pertexp.experiment.jobs as module

    returned = []
    original = module.job_of_sweep

    def watched(run, folder):
        returned.append((original(run, folder), folder))
        return returned[-1][0]

    monkeypatch.setattr(module, "job_of_sweep", watched)
    for _ in range(2):
        sweep("model.rank=2,3")
    values = [value for value, _ in returned]
    assert values[:2] == pytest.approx(values[2:], abs=0)
    rows = json.loads((returned[0][1] / "metrics.json").read_text())["aggregate"]
    assert values[0] == next(r["mean"] for r in rows if (r["model"], r["metric"]) == ("nbglm", "pearson_delta"))


def test_two_sweeps_in_one_process_have_folders_of_their_own():
    assert sweep("model.rank=2").folder.parent != sweep("model.rank=3").folder.parent


def test_a_job_that_another_process_is_at_is_left_to_it():
    from filelock import FileLock

    words = ("model.rank=2,3", "seed=5")
    job = next(path.parent for path in sweep(*words).folder.parent.glob("*/metrics.json"))
    (job / "metrics.json").unlink()
    with FileLock(job / ".lock"):
        beside = sweep(*words)
    assert (beside.code, beside.err) == (0, "")
    assert "left to the process that is at it" in beside.out
    assert "1 jobs on simulated_screen, folds together" in beside.out
    assert not (job / "metrics.json").is_file()
    assert "2 jobs on simulated_screen, folds together" in sweep(*words).out


def test_a_sweep_ends_with_a_verdict_over_the_pooled_folds(grid):
    said = " ".join(grid.out.split("folds together")[-1].split())
    assert "best of 2 settings, chosen on these units: nbglm model.rank=" in said
    assert "on pearson_delta: difference" in said
    assert "over 15 perturbations" in said
