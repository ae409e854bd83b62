"""PRISM over two processes: a frozen environment stops nothing, and there is one model in the end."""

import pytest
import torch
from command import command, fresh_command
from places import ROOT, SUPPORT
from prism_words import PRISM

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("outputs")]


@pytest.mark.slow
def test_two_processes_train_one_model_in_both_stages(outputs):
    words = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=4", "data.batch_size=32")
    same = "+callbacks.same._target_=processes.SameState"
    done = fresh_command(*PRISM, *words, same, PYTHONPATH=f"{ROOT}:{SUPPORT}")
    assert done.code == 0, done.err
    said = [line for line in done.out.splitlines() if line.startswith("epoch ")]
    assert said == [f"epoch {number}: 1 of weights, 1 of buffers" for number in range(4)]
    assert done.out.count("prism on simulated_pairs, fold 0") == 1
    assert "sync_dist" not in done.err
    last = torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert int(last["state_dict"]["network.apart.steps"]) == last["global_step"] / 2  # two of four epochs are active


@pytest.mark.parametrize("words", [("callbacks=default",), ("debug=fast",)])
def test_other_callbacks_and_a_fast_run(words):
    done = command(*PRISM, "trainer.max_epochs=1", *words)
    assert done.code == 0, done.err
    assert "prism on simulated_pairs, fold 0" in done.out
