"""PRISM killed in its warm-up, as that ends and after: resumed, it ends with equal bits.

Also where it is resumed, or repeated, with another number of threads: its sums would be rounded in another way.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch
from command import command
from killing import Diary
from prism_words import PRISM
from resuming import assert_same_end, interrupted, run

from pertexp import threads

pytestmark = pytest.mark.medium

# Eleven steps an epoch: two epochs of warm-up, two of joint training.
WORDS = (
    *PRISM,
    "data.batch_size=16",
    "trainer.max_epochs=4",
    "callbacks.best.first_epoch=2",
    "callbacks.last.every_n_train_steps=3",
    "+callbacks.diary._target_=killing.Diary",
)


def assert_same_predictions(folder: Path, reference: Path) -> None:
    ours, theirs = (pd.read_parquet(one / "predictions.parquet") for one in (folder, reference))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    with threads.kept():
        yield tmp_path


def set_other_threads() -> None:
    if threads.cores() > 1:
        torch.set_num_threads(threads.count() % threads.cores() + 1)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that nothing interrupts: its folder and its diary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("reference")))
        done, diary = run(*WORDS)
    assert done.code == 0, done.err
    assert len([page for page in diary if page[0] == "batch"]) == 44
    return done.folder, diary


@pytest.mark.parametrize(
    ("hook", "call", "kind"),
    [
        pytest.param("batch_start", 15, "Fall", marks=pytest.mark.slow),
        pytest.param("batch_start", 29, "Kill", marks=pytest.mark.slow),
        pytest.param("epoch_start", 3, "Fall", marks=pytest.mark.slow),
        ("batch_start", 23, "Fall"),
        pytest.param("epoch_start", 4, "Fall", marks=pytest.mark.slow),
    ],
    ids=["in the warm-up", "in joint training", "before it begins", "as it begins", "between epochs"],
)  # fmt: skip
def test_a_killed_run_ends_with_equal_bits(hook, call, kind, reference, outputs):
    folder, diary = reference
    killed = interrupted(outputs, hook, call, *WORDS, kind=kind)
    set_other_threads()
    done, resumed = run(*WORDS, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert (done.code, done.err) == (0, "")
    assert resumed == diary[-len(resumed) :]
    assert_same_end(done.folder, folder)
    assert_same_predictions(done.folder, folder)


def test_the_stages_are_in_the_checkpoints(reference):
    folder, diary = reference
    assert [page[1] for page in diary if page[0] == "epoch_start"] == [0, 1, 2, 3]
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert (int(last["active_epochs"]), int(last["network.apart.steps"])) == (1, 22)


def test_a_run_repeats_to_the_last_bit(reference):
    folder, _ = reference
    Diary.pages.clear()
    set_other_threads()
    again = command(f"repeat={folder}")
    assert again.code == 0, again.err
    assert_same_end(again.folder, folder)
    assert_same_predictions(again.folder, folder)
