"""When `last.ckpt` is written, which epoch a loader is told, and which checkpoint a folder stands for."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from pertexp.config.errors import DataError, MismatchError
from pertexp.training.checkpoints import (
    EpochClock,
    KeepBest,
    KeepLast,
    checkpoint_of,
    load_weights,
    read_checkpoint,
    require_resumable,
)


class Trainer(SimpleNamespace):
    """Keeps what is saved: the step, and what the checkpoint says of where it stands."""

    current_epoch = 0
    global_step = 0
    is_last_batch = False
    fast_dev_run = False
    is_global_zero = True

    def save_checkpoint(self, path):
        checkpoint = {}
        self.keep.on_save_checkpoint(self, None, checkpoint)
        self.saved.append((self.global_step, checkpoint.get("between_epochs")))
        path.write_text(str(self.global_step))


@pytest.fixture
def kept(tmp_path):
    keep = KeepLast(str(tmp_path), every_n_train_steps=3)
    return keep, Trainer(keep=keep, saved=[])


def test_within_an_epoch_it_is_written_every_so_many_steps_and_once_a_step(kept, tmp_path):
    keep, trainer = kept
    for step in (0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9):  # gradients accumulate over two batches of the third step
        trainer.global_step, trainer.is_last_batch = step, step == 9
        keep.on_train_batch_end(trainer)
    assert trainer.saved == [(3, False), (6, False)]
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert (tmp_path / "last.ckpt").read_text() == "6"
    checkpoint = {}
    keep.on_save_checkpoint(trainer, None, checkpoint)  # one that another callback takes
    assert checkpoint == {}


def test_between_epochs_it_is_written_but_not_before_the_first(kept):
    keep, trainer = kept
    keep.on_train_epoch_start(trainer, None)
    assert trainer.saved == []
    trainer.current_epoch, trainer.global_step = 1, 9
    keep.on_train_epoch_start(trainer, None)
    trainer.global_step = 12
    keep.on_fit_end(trainer, None)
    assert trainer.saved == [(9, True), (12, True)]
    keep.on_train_batch_end(trainer)  # of a step that is saved already
    assert trainer.saved[2:] == []


def test_a_run_for_trying_out_leaves_nothing_and_other_processes_write_nothing(kept, tmp_path):
    keep, trainer = kept
    trainer.fast_dev_run = True
    keep.on_fit_end(trainer, None)
    assert trainer.saved == []
    trainer.fast_dev_run, trainer.is_global_zero = False, False
    keep.on_fit_end(trainer, None)  # all take part, as the strategy needs them to; the first one puts it in place
    assert trainer.saved == [(0, True)]
    assert not (tmp_path / "last.ckpt").exists()


def test_never_within_an_epoch_where_no_steps_are_counted(tmp_path):
    keep = KeepLast(str(tmp_path), every_n_train_steps=0)
    trainer = Trainer(keep=keep, saved=[], global_step=6)
    keep.on_train_batch_end(trainer)
    assert trainer.saved == []
    assert KeepLast(str(tmp_path)).every_n_train_steps == 100


@pytest.mark.parametrize(("overfit", "told"), [(0, 4), (0.0, 4), (3, 0), (0.5, 0)])
def test_a_loader_is_told_the_epoch_or_always_the_first_where_it_repeats_batches(overfit, told):
    seen = []
    trainer = Trainer(current_epoch=4, overfit_batches=overfit, train_dataloader=SimpleNamespace(set_epoch=seen.append))
    EpochClock().on_train_epoch_start(trainer, None)
    assert seen == [told]


def test_a_folder_stands_for_its_best_checkpoint_then_for_its_last(tmp_path):
    held = tmp_path / "checkpoints"
    held.mkdir()
    with pytest.raises(DataError, match="type ckpt=outputs"):
        checkpoint_of(str(tmp_path))
    for name in ("last.ckpt", "best.ckpt"):
        (held / name).write_text("")
        assert checkpoint_of(str(tmp_path)) == held / name
    assert checkpoint_of(str(held / "last.ckpt")) == held / "last.ckpt"


def test_what_holds_no_weights_is_refused(tmp_path):
    for content in ([1, 2], {"weights": {}}):
        torch.save(content, tmp_path / "x.ckpt")
        with pytest.raises(DataError, match="holds no weights"):
            read_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(DataError, match="no checkpoint"):
        read_checkpoint(tmp_path / "y.ckpt")
    module = torch.nn.Linear(1, 1)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "x.ckpt")
    assert load_weights(module, tmp_path / "x.ckpt") == {}


def test_a_run_does_not_resume_from_weights_of_another_shape(tmp_path):
    stored = {"between_epochs": True, "schema": {}, "setting": {}, "state_dict": torch.nn.Linear(2, 1).state_dict()}
    torch.save(stored, tmp_path / "last.ckpt")
    resume = partial(require_resumable, str(tmp_path / "last.ckpt"), schema={}, setting={})
    resume(module=torch.nn.Linear(2, 1))
    with pytest.raises(MismatchError, match=r"belongs to another model \(weight differs\)"):
        resume(module=torch.nn.Linear(3, 1))


def test_the_best_checkpoint_is_brought_into_a_folder_that_is_there_or_is_made(tmp_path):
    before, here = tmp_path / "before", tmp_path / "run" / "checkpoints"
    before.mkdir()
    (before / "best.ckpt").write_text("best")
    state = {"best_model_path": "/elsewhere/best.ckpt", "best_model_score": torch.tensor(0.5)}
    for _ in range(2):  # at the second time the folder exists
        keep = KeepBest(dirpath=str(here), monitor="val/loss")
        loaded = {"callbacks": {keep.state_key: dict(state)}}
        keep.on_load_checkpoint(Trainer(ckpt_path=before / "last.ckpt"), None, loaded)
        assert (here / "best.ckpt").read_text() == "best"
        assert loaded["callbacks"][keep.state_key]["best_model_path"] == str(here / "best.ckpt")
