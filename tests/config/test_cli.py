"""A wrong request: one sentence on stderr, exit code 2, no traceback, nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import TINY, command, of
from places import ROOT

from pertexp.config.errors import nearest
from pertexp.config.renamed import RENAMED

WRONG = {
    "data/spilt=table": ["there is no group 'data/spilt'", "did you mean data/split"],
    "evalation=core": ["no option 'evalation'", "did you mean evaluation?"],
    "model.start.knd=zero": ["model.start.knd", "did you mean model.start.kind?"],
    "+evalation=core": ["+evalation=core: no part of a run reads evalation", "did you mean evaluation?"],
    "++foo.bar=1": ["no part of a run reads foo", "Or remove it"],
    "loss=nbb": ["loss=nbb", "did you mean nb?"],
    "experiment=nope": ["experiment=nope", "kang_unseen_cell_type"],
    "logger=[csv,foo]": ["logger=foo", "tensorboard"],
    "data/split=foo": ["data/split=foo", "leave_context_out"],
    "data/split/pairs=line": ["data/split/pairs holds the choices of data/split", "type data/split=..."],
    "model.rnk=3": ["model.rnk", "did you mean model.rank?"],
    "+trainer.max_epoch=3": ["trainer.max_epoch", "max_epochs"],
    "+optimizer.learning_rate=3": ["optimizer.learning_rate", "torch.optim.AdamW"],
    "+data.n_genes=3": ["data.n_genes"],
    "+model.rnk=3": ["model.rnk"],
    "model.rank=abc": ["model.rank=abc", "integer"],
    "seed=x": ["seed=x", "integer"],
    "seed=-1": ["seed=-1", "greater than or equal to 0"],
    "trainer.max_epochs=many": ["trainer.max_epochs=many", "integer"],
    "trainer.max_epochs=-5": ["max_epochs", "-5"],
    "data.batch_size=abc": ["data.batch_size=abc", "integer"],
    "data.split.folds=x": ["data.split.folds=x", "integer"],
    "optimizer.lr=fast": ["optimizer.lr=fast", "number"],
    "optimizer.lr=-1": ["optimizer", "learning rate", "-1"],
    "optimizer.betas=[a,b]": ["optimizer.betas", "number"],
    "tags=abc": ["tags=abc", "type 'tags=[abc]'"],
    "print_config=maybe": ["print_config=maybe", "boolean"],
    "model=3": ["group=choice"],
    "logger=null": ["null", "group=choice"],
    "+model=gears": ["model is there already: type model=gears, without +."],
    "data.split=5": ["data.split=5", "data/split=<choice>"],
    "data.gene_embedding=abc": ["data.gene_embedding=abc", "data/gene_embedding=<choice>"],
    "callbacks.best=3": ["callbacks.best=3", "~callbacks.best"],
    "evaluation.baselines.knn=7": ["evaluation.baselines.knn=7", "~evaluation.baselines.knn"],
    "evaluation.baselines.knn.k=0": ["k=0", "at least 1"],
    "evaluation.primary=pearson": ["evaluation.primary=pearson", "pearson_delta"],
    "model._target_=pertexp.models.nope": ["model._target_", "pertexp.models.nope"],
    "trainer.accelerator=quantum": ["trainer", "quantum"],
    "data.split.fold=7": ["7", "data.split.fold=0"],
    "data.split.val_fraction=0": ["val/loss", "data.split.val_fraction", "~callbacks.best ~callbacks.early_stopping"],
    "data.normalize=true": ["nbglm", "counts", "log1p", "data.normalize=false"],
    "model.rank=4 model.regularization.l1=0.1": ["model.rank=4", "model.regularization.group"],
    "loss=nb_deviance model.dispersion=learned": ["nb_deviance", "loss=nb"],
    "+trainer.limit_train_batches=0.01": ["limit_train_batches"],
    "data.batch_size=0": ["data.batch_size=0", "greater than or equal to 1"],
    "data.n_top_genes=-3": ["data.n_top_genes=-3"],
    "data.min_cells=0": ["data.min_cells=0"],
    "data.phase_genes=a;b": ["'data.phase_genes=\"a;b\"'", "both kinds of quotes"],
    "ckpt_path=nowhere/last.ckpt": ["nowhere/last.ckpt", "ckpt_path=<run folder>"],
    "repeat=tests": ["tests", "repeat=outputs/runs"],
    "data..x=": ["'data..x='", "key.key=value"],
    "nonsense": ["'nonsense'", "key.key=value"],
}


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.chdir(ROOT)
    return tmp_path / "outputs"


def refused(*words: str) -> str:
    """The one sentence with which a command was refused."""
    ran = command(*words)
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.out + ran.err
    assert "Error executing job" not in ran.out + ran.err
    assert "[ERROR]" not in ran.out
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("pertexp: ")
    return lines[0]


@pytest.mark.parametrize("request_", WRONG)
def test_a_wrong_request_is_one_message(request_, outputs):
    tiny = [word for word in TINY if not (word.startswith("trainer.max_epochs") and "debug" in request_)]
    said = refused(*tiny, *request_.split())
    for expected in WRONG[request_]:
        assert expected in said
    left = [path for path in outputs.rglob("*") if path.is_file()]
    assert left == [] or request_.startswith("+trainer.limit")  # found out only when Lightning counts batches


def test_what_early_stopping_watches_and_no_one_says_is_named():
    """Found out only once an epoch has said what it says."""
    said = refused(*TINY, "callbacks.early_stopping.monitor=val/foo", "~callbacks.best")
    for expected in ("watches val/foo", "known: val/loss", "~callbacks.early_stopping"):
        assert expected in said


@pytest.mark.medium
@pytest.mark.parametrize("words", [("~logger",), ("logger=[]",), ("callbacks=[]",)])
def test_a_run_without_loggers_or_callbacks(words):
    tiny = [word for word in TINY if word != "~callbacks.progress"] if "callbacks=[]" in words else TINY
    ran = command(*tiny, "trainer.max_epochs=1", *words)
    assert (ran.code, ran.err) == (0, "")
    assert (ran.folder / "report.html").is_file()


def test_a_group_of_another_command():
    from pertexp import calibrate

    ran = of(calibrate.main, "pertexp.calibrate", "model=nbglm")
    assert ran.code == 2
    assert ran.err == "pertexp: model is no group of this command: remove model=..., or look at --help.\n"


def test_nearest_to_nothing():
    assert nearest("counts", []) == "known: none"


def test_a_value_that_must_be_given_is_named():
    assert "data.path has no value: type data.path=..." in refused("data=screen", "print_config=false")


def test_a_preset_without_its_file_says_what_to_get(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTEXP_DATA", str(tmp_path))
    said = refused("data=norman_mini", "print_config=false")
    for expected in (str(tmp_path), "norman19_mcfaline23_perturbench_devel.h5ad", "PerturBench", "PERTEXP_DATA"):
        assert expected in said


@pytest.mark.medium
def test_an_option_of_the_library_that_is_not_listed_can_be_handed_through():
    said = refused(*TINY, "trainer.accumulate_grad_batches=2")
    assert "+trainer.accumulate_grad_batches=..." in said
    assert command(*TINY, "+trainer.accumulate_grad_batches=2").code == 0


class RunsCode:
    """Pickles as a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    trap = tmp_path / "executed"
    torch.save({"state_dict": {}, "between_epochs": True, "trap": RunsCode(trap)}, tmp_path / "last.ckpt")
    assert "never run" in refused(*TINY, f"ckpt_path={tmp_path}/last.ckpt")
    assert not trap.exists()


@pytest.mark.medium
def test_a_truncated_or_foreign_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {"x": torch.ones(1000)}}, tmp_path / "whole.ckpt")
    content = (tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(content[: len(content) // 2])
    torch.save({"something": 1}, tmp_path / "foreign.ckpt")
    assert "truncated" in refused(*TINY, f"ckpt_path={tmp_path}/cut.ckpt")
    assert "state_dict" in refused(*TINY, f"ckpt_path={tmp_path}/foreign.ckpt")
    assert "last.ckpt" in refused(*TINY, f"ckpt_path={tmp_path}/whole.ckpt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there():
    assert "gpu" in refused(*TINY, "trainer=gpu")


def test_a_bug_keeps_its_traceback(monkeypatch):
    from pertexp.evaluation.screens.evaluation import ScreenEvaluation

    def fall(*_):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(ScreenEvaluation, "__call__", fall)
    ran = command(*TINY)
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert "ZeroDivisionError: a bug of ours" in ran.err


def test_everything_is_shown_to_those_who_ask(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for words in (["loss=nbb"], ["seed=x"]):
        ran = command(*TINY, *words)
        assert ran.code == 1
        assert "Traceback" in ran.err
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_the_door_leaves_the_environment_as_it_was():
    command("loss=nbb")
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.medium
def test_ctrl_c_is_one_line_and_leaves_a_checkpoint_to_go_on_from(outputs):
    killer = [
        "+callbacks.stop._target_=killing.Interrupt",
        "+callbacks.stop.hook=batch_start",
        "+callbacks.stop.call=2",
    ]
    ran = command(*TINY, *killer)
    assert ran.code == 130
    assert (
        ran.err.strip()
        == "pertexp: interrupted; ckpt_path=<run folder>/checkpoints/last.ckpt goes on from the last checkpoint"
    )
    (last,) = outputs.rglob("last.ckpt")
    assert command(*TINY, f"ckpt_path={last}").code == 0


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path / "file"))
    said = refused(*TINY)
    assert str(tmp_path / "file") in said
    assert "PERTEXP_OUTPUTS" in said


def test_help_may_be_cut_short():
    done = subprocess.run(
        f"{sys.executable} -m pertexp.run --help | head -n 1", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("pertexp")


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_refused_with_its_new_one(old):
    words = [old if "=" in old else f"{old}=1"]
    done = command(*(["model=gears"] if old == "model.lr_decay" else []), *words)
    assert (done.code, done.err) == (2, f"pertexp: {old} has another name now: type {RENAMED[old]}.\n")
    assert f"`{old}" in (ROOT / "CHANGELOG.md").read_text() or old == "callbacks.curriculum"
