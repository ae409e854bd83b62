"""One run, end to end: what it leaves behind, and that it repeats."""

import json
import os
import re
import shutil
import subprocess

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from command import TINY, command, fresh_command
from omegaconf import OmegaConf
from places import ROOT

pytestmark = pytest.mark.medium

PER_RUN = {
    "calibration.parquet",
    "data.json",
    "environment.json",
    "metrics.json",
    "metrics.parquet",
    "predictions.h5ad",
    "report.html",
    "split.parquet",
}
GROUPS_OF_FILES = {"config", "checkpoints", "logs", "pertexp.log"}


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    return tmp_path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One finished run, to look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        done = command(*TINY, "logger=[csv,tensorboard]", "tags=[first,tiny]")
    assert done.code == 0, done.err
    return done


def test_a_run_leaves_all_that_is_needed_to_trust_and_repeat_it(ran):
    there = {path.name for path in ran.folder.iterdir()}
    assert there >= PER_RUN | GROUPS_OF_FILES | {"tensorboard"}
    assert not [path for path in ran.folder.rglob("*") if "partial" in path.name]
    assert re.fullmatch(r"\d\d-\d\d-\d\d-\d{6}_nbglm_simulated_screen", ran.folder.name)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", ran.folder.parent.name)


def test_a_run_says_what_it_was(ran):
    config = OmegaConf.load(ran.folder / "config" / "config.yaml")
    assert (config.data.simulator.n_genes, list(config.tags)) == (30, ["first", "tiny"])
    environment = json.loads((ran.folder / "environment.json").read_text())
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert environment["git_revision"].removesuffix("+changes") == head.strip()
    assert environment["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "tags=[first,tiny]" in environment["command"]
    data = json.loads((ran.folder / "data.json").read_text())
    assert data["genes"] == 30
    assert data["cells"] == sum(data["cells_by_role"].values()) == 15 * 20 + 120
    assert "[first, tiny]" in (ran.folder / "pertexp.log").read_text()


def test_the_split_on_record_is_the_split_that_was_scored(ran):
    split = pd.read_parquet(ran.folder / "split.parquet")
    tested = set(split[(split["fold"] == 0) & (split["role"] == "test")]["perturbation"])
    predictions = anndata.read_h5ad(ran.folder / "predictions.h5ad")
    assert set(predictions.obs["perturbation"]) == tested
    assert predictions.uns["scale"].startswith("log1p")
    assert len(set(predictions.var_names)) == 30
    per_unit = pd.read_parquet(ran.folder / "metrics.parquet")
    assert set(per_unit["perturbation"]) == tested


def test_metrics_are_means_of_the_units(ran):
    per_unit = pd.read_parquet(ran.folder / "metrics.parquet")
    for row in json.loads((ran.folder / "metrics.json").read_text())["aggregate"]:
        own = per_unit[(per_unit["model"] == row["model"]) & (per_unit["metric"] == row["metric"])]["value"]
        assert row["mean"] == pytest.approx(own.mean(), abs=1e-12, nan_ok=True)


def test_the_console_shows_the_table_once_and_nothing_of_lightning(ran):
    assert ran.out.count("nbglm on simulated_screen, fold 0") == 1
    assert ran.out.count("closed-form start") == 1
    for noise in ("GPU available", "litlogger", "Restoring states", "`Trainer.fit` stopped", "LeafSpec", "💡"):
        assert noise not in ran.out + ran.err
    assert ran.err == ""
    log = (ran.folder / "pertexp.log").read_text()
    assert log.count("closed-form start") == 1


def test_the_checkpoint_loads_without_code_and_knows_what_it_needs(ran):
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = torch.load(ran.folder / "checkpoints" / name, weights_only=True)
        schema = checkpoint["schema"]
        assert len(schema["genes"]) == 30
        assert len(schema["perturbations"]) == 16  # with control
        assert (schema["contexts"], schema["scale"], schema["fold"]) == (["context1"], "counts", 0)
        assert schema["split_hash"] == json.loads((ran.folder / "data.json").read_text())["split_hash"]
        assert set(schema["versions"]) == {"pertexp", "torch", "lightning"}


def test_scored_weights_are_those_of_the_best_epoch(ran, monkeypatch):
    """Predictions on record come from best.ckpt, not from where training ended."""
    curve = pd.read_csv(ran.folder / "logs" / "metrics.csv")["val/loss"].dropna()
    best = torch.load(ran.folder / "checkpoints" / "best.ckpt", weights_only=True)
    score = next(state for key, state in best["callbacks"].items() if key.startswith("KeepBest"))["best_model_score"]
    assert float(score) == pytest.approx(curve.min(), rel=1e-5)
    assert best["epoch"] == int(curve.to_numpy().argmin())


def test_the_same_command_gives_the_same_numbers_and_another_seed_others(ran):
    again = command(*TINY)
    assert (again.folder / "metrics.json").read_bytes() == (ran.folder / "metrics.json").read_bytes()
    other = command(*TINY, "seed=1", "data.batch_size=32")
    assert (other.folder / "metrics.json").read_bytes() != (ran.folder / "metrics.json").read_bytes()


def test_repeat_gives_the_same_numbers_also_of_a_repeat():
    first = command(*TINY, "model.rank=3", "data.batch_size=64", "data.split.fold=2")
    second = command(f"repeat={first.folder}")
    third = command(f"repeat={second.folder}")
    metrics = {(done.folder / "metrics.json").read_bytes() for done in (first, second, third)}
    assert len(metrics) == 1
    assert len({done.folder for done in (first, second, third)}) == 3
    assert OmegaConf.load(third.folder / "config" / "config.yaml").model.rank == 3


def test_repeat_with_a_change_is_refused(ran):
    refused = command(f"repeat={ran.folder}", "seed=3")
    assert refused.code == 2
    assert "seed=3" in refused.err


def test_the_composed_configuration_is_printed_unless_it_is_not_wanted():
    words = [word for word in TINY if not word.startswith("print_config")]
    assert "n_perturbations: 15" in command(*words, "debug=fast").out
    assert "n_perturbations: 15" not in command(*TINY, "debug=fast").out


@pytest.mark.parametrize(
    ("debug", "steps"),
    [("fast", None), ("overfit", 150), ("profile", 20), ("limit", 9)],
)
def test_every_debug_choice_runs(debug, steps):
    tiny = [word for word in TINY if not word.startswith("trainer.max_epochs")]
    done = command(*tiny, f"debug={debug}", "data.batch_size=13")
    assert done.code == 0, done.err
    assert done.out.count("FIT Profiler Report") == (1 if debug == "profile" else 0)
    if steps is None:
        assert not (done.folder / "checkpoints").exists()
    else:
        assert torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps


def test_overfitting_sees_the_same_batches_in_every_epoch(monkeypatch):
    from pertexp.models.nbglm.module import NBGLM

    seen = []
    step = NBGLM.training_step

    def watched(self, batch, batch_idx):
        seen.append(tuple(batch["counts"].sum(dim=1).tolist()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(NBGLM, "training_step", watched)
    tiny = [word for word in TINY if not word.startswith("trainer.max_epochs")]
    assert command(*tiny, "debug=overfit", "trainer.max_epochs=3", "data.batch_size=13").code == 0
    assert len(set(seen)) == 3
    assert seen == seen[:3] * 3


def test_a_model_that_is_not_trained_at_all_is_scored_and_kept():
    done = command(*TINY, "trainer.max_epochs=0")
    assert done.code == 0, done.err
    assert torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 0


def test_without_validation_units_the_last_epoch_counts():
    done = command(*TINY, "data.split.val_fraction=0", "callbacks=resume")
    assert (done.code, done.err) == (0, "")
    assert not (done.folder / "checkpoints" / "best.ckpt").exists()


def test_wandb_writes_offline_and_is_finished():
    import wandb

    done = command(*TINY, "logger=wandb", "tags=[a]")
    assert done.code == 0, done.err
    assert wandb.run is None
    assert list(done.folder.glob("wandb/offline-run-*/*.wandb"))


def test_wandb_is_finished_also_when_training_falls(monkeypatch):
    import wandb

    from pertexp.models.nbglm.module import NBGLM

    def fall(self, batch, batch_idx):
        assert wandb.run is not None
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(NBGLM, "training_step", fall)
    done = command(*TINY, "logger=wandb")
    assert done.code == 1
    assert "in the middle" in done.err
    assert wandb.run is None


def test_wandb_goes_online_only_where_somebody_is_logged_in(monkeypatch, tmp_path):
    from pertexp.training import loggers

    monkeypatch.delenv("WANDB_MODE")
    for known, mode in ((True, "online"), (False, "offline")):
        monkeypatch.setattr(loggers, "_logged_in", lambda known=known: known)
        assert loggers.wandb_logger("p", str(tmp_path))._wandb_init["mode"] == mode
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert loggers.wandb_logger("p", str(tmp_path))._wandb_init["mode"] == "disabled"


def test_a_run_that_falls_leaves_no_half_written_file(monkeypatch, outputs):
    from pertexp.evaluation.screens.evaluation import ScoredScreenRun

    def fall(self, folder):
        raise OSError("disk full")

    monkeypatch.setattr(ScoredScreenRun, "write_units", fall)
    assert command(*TINY).code == 1
    left = {path.name for path in outputs.rglob("*") if path.is_file()}
    assert not left & {"metrics.json", "metrics.parquet"}
    assert not [name for name in left if "partial" in name or name.startswith(".")]


def test_predictions_that_cannot_be_written_are_not_begun(monkeypatch, outputs):
    def fall(self, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", fall)
    assert command(*TINY).code == 1
    left = [path.name for path in outputs.rglob("*predictions*")]
    assert left == []


def test_runs_started_in_the_same_second_do_not_share_a_folder():
    folders = {command(*TINY, "debug=fast").folder for _ in range(3)}
    assert len(folders) == 3


@pytest.mark.slow
def test_two_processes_train_one_model_and_one_of_them_speaks(outputs):
    done = fresh_command(*TINY, "trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=32")
    assert done.code == 0, done.err
    assert done.out.count("nbglm on simulated_screen, fold 0") == 1
    assert done.out.count("closed-form start") == 1
    runs = list((outputs / "runs").glob("*/*"))
    assert runs == [done.folder]
    assert {path.name for path in done.folder.iterdir()} == PER_RUN | GROUPS_OF_FILES | {"recovery.json"}
    checkpoint = torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)
    training = json.loads((done.folder / "data.json").read_text())["cells_by_role"]
    batches = -(-(training["train"] + training["control"]) // (32 * 2))
    assert checkpoint["global_step"] == 2 * batches  # each process has seen one half


def test_the_progress_bar_shows_the_losses():
    done = command(*[word for word in TINY if "progress" not in word])
    assert "Epoch 1/1" in done.out
    assert "train/loss" in done.out
    assert "v_num" not in done.out


def test_sampled_cells_are_written_where_asked_for():
    done = command(*TINY, "model.sampling.cells_per_unit=3", "model.sampling.sampler=gp_mixture")
    assert done.code == 0, done.err
    cells = anndata.read_h5ad(done.folder / "samples.h5ad")
    units = anndata.read_h5ad(done.folder / "predictions.h5ad").obs["perturbation"]
    assert cells.obs["perturbation"].value_counts().to_dict() == dict.fromkeys(units, 3)
    assert cells.uns["scale"] == "counts"
    assert np.array_equal(cells.X.data, np.rint(cells.X.data))


def test_a_screens_model_on_pairs_is_one_message_and_leaves_nothing(outputs):
    done = command("data=simulated_pairs", "print_config=false")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "data=simulated_pairs holds pairs" in done.err
    assert not list((outputs / "runs").glob("*/*"))


def test_slurm_on_the_machine_is_not_mentioned(tmp_path, monkeypatch, recwarn):
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=os.pathsep)
    assert shutil.which("srun") == str(srun)
    done = command(*TINY, "trainer.max_epochs=1")
    assert (done.code, done.err) == (0, "")
    assert [str(warning.message) for warning in recwarn if "srun" in str(warning.message)] == []
