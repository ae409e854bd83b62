"""A run that is killed and resumed ends with the numbers of one that was not, to the last bit."""

import random
import shutil
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from command import command
from resuming import WORDS, assert_same_end, interrupted, run

from pertexp.config.errors import MismatchError
from pertexp.training.checkpoints import RandomState, require_resumable

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("outputs")]
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that nothing interrupts: its folder and its diary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("reference")))
        done, diary = run(*WORDS)
    assert done.code == 0, done.err
    assert len([page for page in diary if page[0] == "batch"]) == 15
    return done.folder, diary


@pytest.mark.parametrize(
    ("hook", "call"),
    [
        pytest.param("batch_start", 4, marks=SLOW),
        ("batch_start", 8),
        pytest.param("validation_start", 2, marks=SLOW),
    ],
    ids=["within the first epoch", "within a later epoch", "between the last batch of an epoch and its validation"],
)
def test_a_run_killed_by_sigkill_ends_with_equal_bits(hook, call, reference, outputs, recwarn):
    folder, diary = reference
    killed = interrupted(outputs, hook, call, *WORDS, kind="Kill")
    done, resumed = run(*WORDS, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert (done.code, done.err) == (0, "")
    assert_same_end(done.folder, folder)
    assert resumed == diary[-len(resumed) :]
    assert [str(said.message) for said in recwarn if "lightning" in said.filename] == []


@pytest.mark.parametrize(
    ("hook", "call", "left"),
    [
        pytest.param("batch_end", 5, 11, marks=SLOW),  # nothing has validated the epoch yet: from step 4 again
        ("epoch_end", 1, 11),  # validated, but early stopping and the best checkpoint have not seen it
        pytest.param("epoch_start", 2, 11, marks=SLOW),  # at the boundary, before the checkpoint of the boundary
        ("batch_start", 6, 10),  # at the boundary, after it
        pytest.param("batch_end", 6, 10, marks=SLOW),  # a step after it, before the checkpoint of that step
        ("epoch_start", 3, 7),  # before the checkpoint of the second boundary: from step 8 again
        pytest.param("epoch_end", 3, 1, marks=SLOW),  # at the end of the last epoch
        pytest.param("train_end", 1, 1, marks=SLOW),
    ],
)
def test_no_batch_is_seen_twice_and_none_is_left_out(hook, call, left, reference, outputs):
    folder, diary = reference
    killed = interrupted(outputs, hook, call, *WORDS)
    done, resumed = run(*WORDS, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert done.code == 0, done.err
    assert resumed == diary[-len(resumed) :]  # batches, their rows, validations and their losses, epochs
    assert len([page for page in resumed if page[0] == "batch"]) == left
    assert_same_end(done.folder, folder)


def test_a_resumed_run_can_be_killed_and_resumed_again(reference, outputs):
    folder, _ = reference
    first = interrupted(outputs, "batch_start", 4, *WORDS)
    second = interrupted(outputs, "batch_start", 6, *WORDS, f"ckpt_path={first}/checkpoints/last.ckpt")
    done = command(*WORDS, f"ckpt_path={second}/checkpoints/last.ckpt")
    assert_same_end(done.folder, folder)


def test_a_finished_run_resumes_to_what_it_was(reference):
    folder, _ = reference
    done, diary = run(*WORDS, f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert (done.code, diary) == (0, [])
    assert_same_end(done.folder, folder)


def test_two_epochs_and_a_third_are_three(reference):
    folder, diary = reference
    short = command(*WORDS, "trainer.max_epochs=2")
    done, resumed = run(*WORDS, f"ckpt_path={short.folder}/checkpoints/last.ckpt")
    assert resumed == diary[-len(resumed) :]
    assert_same_end(done.folder, folder)


def test_gradients_that_accumulate_are_not_lost(outputs):
    words = (*WORDS, "+trainer.accumulate_grad_batches=2", "callbacks.last.every_n_train_steps=1")
    whole, diary = run(*words)
    killed = interrupted(outputs, "batch_start", 4, *words)  # one batch of the second step is in
    done, resumed = run(*words, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert resumed == diary[-len(resumed) :]
    assert_same_end(done.folder, whole.folder)


EARLY = (*WORDS, "optimizer.lr=0.3", "callbacks.early_stopping.patience=2", "trainer.max_epochs=20")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run whose first epochs are its best, and which stops early."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("stopped")))
        done, diary = run(*EARLY)
    epochs = [page for page in diary if page[0] == "epoch_end"]
    assert 3 <= len(epochs) < 20
    return done.folder, diary, len(epochs)


@pytest.mark.parametrize("batches_before_the_end", [2, pytest.param(7, marks=SLOW)])
def test_early_stopping_and_the_best_epoch_survive(batches_before_the_end, stopped, outputs):
    folder, diary, epochs = stopped
    killed = interrupted(outputs, "batch_start", 5 * epochs - batches_before_the_end, *EARLY)
    done, resumed = run(*EARLY, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert done.code == 0, done.err
    assert resumed == diary[-len(resumed) :]
    assert_same_end(done.folder, folder)  # best.ckpt was written by the killed run and came along


def test_what_stopped_early_stays_stopped(stopped):
    folder, _, _ = stopped
    done, diary = run(*EARLY, f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert [page[0] for page in diary] == ["train_end"]
    assert_same_end(done.folder, folder)


def test_checkpoints_may_be_moved_but_not_parted(stopped, outputs):
    folder, _, _ = stopped
    moved = shutil.copytree(folder / "checkpoints", outputs / "elsewhere")
    shutil.move(folder, folder.with_name("gone"))  # so that nothing is found where it was
    try:
        done = command(*EARLY, f"ckpt_path={moved}/last.ckpt")
        assert_same_end(done.folder, folder.with_name("gone"))
        (moved / "best.ckpt").unlink()
        parted = command(*EARLY, f"ckpt_path={moved}/last.ckpt")
    finally:
        shutil.move(folder.with_name("gone"), folder)
    assert parted.code == 2
    assert "best.ckpt" in parted.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.split.fold=1", "fold differs"),
        ("data.split.seed=1", "split_hash differs"),
        ("data.simulator.n_genes=31", "genes differs"),
        ("model.rank=3", "last.ckpt was trained with model.rank=null, and this run has 3"),
        ("optimizer.lr=0.5", "last.ckpt was trained with optimizer.lr=0.001, and this run has 0.5"),
        ("data.batch_size=32", "last.ckpt was trained with data.batch_size=64, and this run has 32"),
        ("loss=mse", "last.ckpt was trained with loss."),
        ("+optimizer.eps=1e-4", "last.ckpt was trained with optimizer.eps=not there, and this run has 0.0001"),
        ("scheduler=step", "last.ckpt was trained with scheduler._target_="),
        ("seed=1", "resume with the options of its own run, or start anew without ckpt_path"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, said, reference):
    folder, _ = reference
    refused = command(*WORDS, change, f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert said in refused.err


@pytest.mark.parametrize(
    ("before", "here", "one"),
    [
        ("my.h5ad", "my.h5ad", True),
        ("my.h5ad", "../my.h5ad", True),
        ("./my.h5ad", "my.h5ad", True),
        ("my.h5ad", "/other/disk/my.h5ad", True),
        ("/data//my.h5ad", "/data/my.h5ad", True),
        ("/data/my.h5ad", "/data/other.h5ad", False),
        ("a.csv", "b.csv", False),
        ("a.csv", "sub/b.csv", False),
        ("/data/my.h5ad", None, False),
        ("+", "/", False),
    ],
)
def test_a_file_may_lie_elsewhere_under_its_name(before, here, one, tmp_path):
    module = torch.nn.Linear(1, 1)
    stored = {"between_epochs": True, "schema": {}, "state_dict": module.state_dict()}
    torch.save({**stored, "setting": {"data": {"path": before}}}, tmp_path / "last.ckpt")
    resume = partial(require_resumable, str(tmp_path / "last.ckpt"), module, {}, {"data": {"path": here}})
    refused = pytest.raises(MismatchError, match=r"last\.ckpt was trained with data\.path=")
    with nullcontext() if one else refused:
        resume()


def test_the_best_checkpoint_is_not_one_to_resume_from(reference):
    folder, _ = reference
    refused = command(*WORDS, f"ckpt_path={folder}/checkpoints/best.ckpt")
    assert refused.code == 2
    assert "last.ckpt" in refused.err


def test_no_checkpoint_is_half_written(reference):
    folder, _ = reference
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_random_state_comes_back(tmp_path):
    def draw() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(1))]  # noqa: NPY002

    callback, checkpoint = RandomState(), {}
    draw()
    callback.on_save_checkpoint(None, None, checkpoint)
    torch.save(checkpoint, tmp_path / "state.pt")
    expected = draw()
    draw()
    callback.on_load_checkpoint(None, None, torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == expected
