"""Which mode a W&B logger is in, and that a run is always finished."""

import sys
from types import SimpleNamespace

import pytest

from pertexp.training import loggers
from pertexp.training.loggers import closing_wandb


@pytest.fixture
def finished(monkeypatch):
    codes = []
    fake = SimpleNamespace(run="open", finish=lambda exit_code: codes.append(exit_code))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake, codes


def test_a_run_is_finished_as_it_ended(finished):
    _, codes = finished
    with closing_wandb():
        assert codes == []
    with pytest.raises(ValueError, match="broken"), closing_wandb():
        raise ValueError("broken")
    assert codes == [0, 1]


def test_without_a_run_there_is_nothing_to_finish(finished, monkeypatch):
    fake, codes = finished
    fake.run = None
    with closing_wandb():
        pass
    monkeypatch.delitem(sys.modules, "wandb")
    with closing_wandb():
        pass
    assert codes == []
    assert "wandb" not in sys.modules


@pytest.mark.parametrize(
    ("mode", "variable", "login", "expected"),
    [
        (None, None, True, "online"),
        (None, None, False, "offline"),
        (None, "disabled", True, "disabled"),
        ("offline", "online", True, "offline"),
    ],
)
def test_the_mode_is_the_one_asked_for_or_follows_the_login(mode, variable, login, expected, monkeypatch):
    asked = {}
    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger", lambda **options: asked.update(options))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(login=lambda **how: asked.update(how) or login))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    loggers.wandb_logger("own", "folder", mode, tags=["a"])
    how = {"prompt": False, "verify": False} if mode is variable is None else {}
    assert asked == {**how, "project": "own", "save_dir": "folder", "mode": expected, "tags": ["a"]}
