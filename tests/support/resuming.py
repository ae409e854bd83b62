"""Runs that are interrupted and resumed, and what has to be equal in the end."""

import signal
from pathlib import Path

import torch
from command import TINY, Ran, command, fresh_command
from killing import Diary
from places import SUPPORT, TESTS

# Five batches an epoch: 0-4, 5-9, 10-14. A checkpoint every two steps, and between epochs.
WORDS = (
    *TINY,
    "data.batch_size=64",
    "trainer.max_epochs=3",
    "callbacks.last.every_n_train_steps=2",
    "+callbacks.diary._target_=killing.Diary",
)


def run(*words: str) -> tuple[Ran, list]:
    """A command, and the diary of its training."""
    Diary.pages.clear()
    return command(*words), list(Diary.pages)


def interrupted(outputs: Path, hook: str, call: int, *words: str, kind: str = "Fall") -> Path:
    """The folder of a run that ended at the n-th call of a hook."""
    before = set(outputs.glob("runs/*/*"))
    killer = [f"+callbacks.killer._target_=killing.{kind}", f"+callbacks.killer.hook={hook}"]
    killer.append(f"+callbacks.killer.call={call}")
    if kind == "Kill":
        done = fresh_command(*words, *killer, PYTHONPATH=f"{SUPPORT}:{TESTS}")
        assert done.code == -signal.SIGKILL, done.err
    else:
        assert "InterruptedError" in command(*words, *killer).err
    (folder,) = set(outputs.glob("runs/*/*")) - before
    assert not (folder / "metrics.json").exists()
    return folder


def assert_same_end(folder: Path, reference: Path) -> None:
    assert (folder / "metrics.json").read_bytes() == (reference / "metrics.json").read_bytes()
    assert_same_weights(folder, reference)


def assert_same_weights(folder: Path, reference: Path) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = (torch.load(f / "checkpoints" / name, weights_only=True) for f in (folder, reference))
        assert (ours["epoch"], ours["global_step"]) == (theirs["epoch"], theirs["global_step"])
        for key, weight in theirs["state_dict"].items():
            assert torch.equal(ours["state_dict"][key], weight), key
        for moment, expected in zip(
            ours["optimizer_states"][0]["state"].values(), theirs["optimizer_states"][0]["state"].values(), strict=True
        ):
            assert all(torch.equal(moment[key], expected[key]) for key in expected)
