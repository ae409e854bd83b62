"""The fit loop's failures in words, and the weights that it ends with."""

from types import SimpleNamespace

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from pertexp.config.errors import RequestError
from pertexp.training.checkpoints import KeepBest
from pertexp.training.fit import fit


class Trainer(SimpleNamespace):
    """Trains nothing; fails as it is told to."""

    fault: BaseException | None = None
    interrupted = False
    checkpoint_callbacks = ()
    callback_metrics = {"val/loss": torch.tensor(0.5), "train/loss": torch.tensor(0.1)}  # noqa: RUF012

    def fit(self, *words, **options):
        self.called = (words, options)
        if self.fault is not None:
            raise self.fault


def test_a_checkpoint_is_never_unpickled_and_the_last_epoch_counts_where_none_is_kept():
    trainer = Trainer()
    assert fit("model", "data", trainer, "last.ckpt") == {"val/loss": 0.5}
    assert trainer.called == (("model",), {"datamodule": "data", "ckpt_path": "last.ckpt", "weights_only": True})


def test_the_best_epoch_is_put_in(tmp_path):
    model, best = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.save({"state_dict": best.state_dict(), "validation": {"val/loss": 0.25}}, tmp_path / "best.ckpt")
    keep = KeepBest(dirpath=str(tmp_path))
    assert fit(model, None, Trainer(checkpoint_callbacks=[object(), keep]), None) == {"val/loss": 0.5}  # none was kept
    assert not torch.equal(model.weight, best.weight)
    keep.best_model_path = str(tmp_path / "best.ckpt")
    assert fit(model, None, Trainer(checkpoint_callbacks=[object(), keep]), None) == {"val/loss": 0.25}
    assert torch.equal(model.weight, best.weight)


@pytest.mark.parametrize(("interrupted", "kind"), [(True, KeyboardInterrupt), (False, SystemExit)])
def test_an_interruption_is_one(interrupted, kind):
    with pytest.raises(kind):
        fit(None, None, Trainer(fault=SystemExit(1), interrupted=interrupted), None)


def test_settings_that_lightning_refuses_are_refused_in_a_line():
    fault = MisconfigurationException("\n no such strategy\nand much more")
    with pytest.raises(RequestError, match=r"^trainer cannot train as it is set: no such strategy$"):
        fit(None, None, Trainer(fault=fault), None)


def test_early_stopping_on_what_is_not_logged_names_what_is():
    fault = RuntimeError("Early stopping conditioned on metric `val/auprc` which is not available.")
    with pytest.raises(RequestError, match=r"watches val/auprc, which the model did not log; known: val/loss\. Type"):
        fit(None, None, Trainer(fault=fault), None)
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(None, None, Trainer(fault=RuntimeError("out of memory")), None)
