"""Training in stages: what is trained when, where it begins, and that it can be interrupted anywhere."""

import shutil
from typing import Any, ClassVar

import lightning
import pytest
import torch
from command import TINY, command
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning import Callback, Trainer
from pair_runs import SMALL, composed, made
from prism_words import PRISM
from resuming import assert_same_end, interrupted, run
from torch import nn

from pertexp.config.errors import DataError, MismatchError, RequestError
from pertexp.config.instantiate import build
from pertexp.models.protocols import Staged, StageEpoch
from pertexp.training.checkpoints import begin_from
from pertexp.training.plan import Plan
from pertexp.training.stages import Stages, parameters_of

pytestmark = pytest.mark.usefixtures("outputs")


class Scaled(nn.Sequential):
    """A container that holds a parameter itself."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * super().forward(x)


class Toy(lightning.LightningModule):
    """Three parts, one of them with batch normalisation, one of loose parameters; it writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
        self.head = Scaled(nn.Linear(4, 2))
        self.shift, self.stretch = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
        self.told: list[StageEpoch] = []

    def parts(self) -> dict[str, Any]:
        return {"base": self.base, "head": self.head, "loose": [self.shift, self.stretch]}

    def begin_epoch(self, now: StageEpoch) -> None:
        self.told.append(now)

    def training_step(self, batch: torch.Tensor, *_: Any) -> torch.Tensor:
        return (self.stretch * self.head(self.base(batch)) + self.shift - 3).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.05, weight_decay=0.1)


class Unstaged(Toy):
    """The same without parts."""

    parts = None  # type: ignore[assignment]


class Epochs(Callback):
    """Writes down, epoch by epoch, which parameters have gradients, and which weights and buffers the epoch changes."""

    def __init__(self) -> None:
        self.trainable: list[set[str]] = []
        self.moved: list[set[str]] = []

    def on_train_epoch_start(self, _: Trainer, pl_module: Any) -> None:
        self.trainable.append({name for name, one in pl_module.named_parameters() if one.requires_grad})
        self.before = {name: one.clone() for name, one in pl_module.state_dict().items()}

    def on_train_epoch_end(self, _: Trainer, pl_module: Any) -> None:
        after = pl_module.state_dict()
        self.moved.append({name for name, one in self.before.items() if not torch.equal(after[name], one)})


def stages(plan: dict[str, Any], **others: Any) -> Stages:
    return Stages.from_config(plan, **others)


def trained(model: Any, plan: Stages, epochs: int, data: Any = None, **options: Any) -> Epochs:
    """A model trained by a plan, and what was seen of it."""
    seen = Epochs()
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=[plan, seen], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    rows = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    if data is None:
        trainer.fit(model, torch.utils.data.DataLoader(rows, batch_size=4))
    else:
        trainer.fit(model, datamodule=data)
    return seen


def names(model: Any, *parts: str) -> set[str]:
    """Names of the parameters of parts."""
    held = {one for part in parts for one in parameters_of(model.parts()[part])}
    return {name for name, one in model.named_parameters() if one in held}


THREE = {
    "first": {"epochs": 2, "freeze": ["head"]},
    "second": {"epochs": 1, "train": ["head", "loose"]},
    "third": {"epochs": None, "train": "all", "freeze": ["loose"]},
}
STATISTICS = {"base.1.running_mean", "base.1.running_var", "base.1.num_batches_tracked"}


# what is trained when


def test_the_parts_of_a_stage_have_gradients_and_move_and_no_others():
    model = Toy()
    seen = trained(model, stages(THREE), 5)
    expected = [
        names(model, "base", "loose"), names(model, "base", "loose"),
        names(model, "head", "loose"),
        names(model, "base", "head"), names(model, "base", "head"),
    ]  # fmt: skip
    assert {"head.scale", "base.1.weight"} <= expected[3]
    assert seen.trainable == expected
    assert [moved - STATISTICS for moved in seen.moved] == expected


def test_statistics_of_batch_normalisation_rest_with_their_part():
    seen = trained(Toy(), stages(THREE), 4)
    assert [moved & STATISTICS for moved in seen.moved] == [STATISTICS, STATISTICS, set(), STATISTICS]


def test_a_model_is_told_which_epoch_of_which_stage_begins():
    model = Toy()
    trained(model, stages(THREE), 5)
    told = list({(now.stage, now.epoch): now for now in model.told}.values())
    assert told == [
        StageEpoch("first", 0, {"base": 0, "loose": 0}),
        StageEpoch("first", 1, {"base": 1, "loose": 1}),
        StageEpoch("second", 0, {"base": 2, "head": 0, "loose": 2}),
        StageEpoch("third", 0, {"base": 3, "head": 1, "loose": 3}),
        StageEpoch("third", 1, {"base": 4, "head": 2, "loose": 4}),
    ]


@pytest.mark.parametrize(
    ("skipped", "order", "active"),
    [
        ("first", ["second", "third", "third"], {"head": 2, "loose": 2, "base": 1}),
        ("second", ["first", "first", "third"], {"base": 2, "loose": 2, "head": 0}),
        ("third", ["first", "first", "second"], {"base": 2, "loose": 2, "head": 0}),
    ],
)
def test_a_stage_of_no_epochs_is_skipped(skipped, order, active):
    model = Toy()
    plan = {name: {**stage, "epochs": 0} if name == skipped else stage for name, stage in THREE.items()}
    seen = trained(model, stages(plan), 3)
    assert list({(now.stage, now.epoch): now.stage for now in model.told}.values()) == order
    assert model.told[-1].active == active
    by_name = {"first": ("base", "loose"), "second": ("head", "loose"), "third": ("base", "head")}
    assert seen.trainable == [names(model, *by_name[name]) for name in order]


def test_what_a_model_brings_frozen_is_never_trained():
    model = Toy()
    model.base[0].weight.requires_grad_(False)
    model.stretch.requires_grad_(False)
    seen = trained(model, stages(THREE), 4)
    assert not {"base.0.weight", "stretch"} & set.union(*seen.trainable, *seen.moved)
    assert "base.0.bias" in seen.moved[0] & seen.moved[3]


def test_a_model_without_parts_is_trained_as_a_whole_in_one_stage():
    model = Unstaged()
    assert not isinstance(model, Staged)
    seen = trained(model, build(composed("model=nbglm").stages, "stages"), 1)
    everything = {name for name, _ in model.named_parameters()}
    assert (seen.trainable, seen.moved[0] - STATISTICS) == ([everything], everything)
    assert model.told == []


# what is refused


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"a": {"epochs": -1}}, r"stages\.plan\.a\.epochs=-1: input should be greater than or equal to 0"),
        ({"a": {"epochs": "many"}}, r"stages\.plan\.a\.epochs=many: input should be a valid integer"),
        ({"a": {"epoch": 1}}, r"stages\.plan\.a\.epoch is not an option"),
        ({"a": {"train": "some"}}, r"stages\.plan\.a\.train=some: expected a list: type"),
        ({"a": {"freeze": "base"}}, r"stages\.plan\.a\.freeze=base: expected a list: type"),
        ({"a": {}, "b": {}}, r"stages\.plan\.a\.epochs=null lasts until training ends, but b comes after it"),
        ({"a": {"epochs": 1, "train": ["x"], "freeze": ["x"]}}, r"stages\.plan\.a has x in train and in freeze"),
        (
            {"a": {"epochs": 0}, "b": {"epochs": 0}},
            r"stages\.plan\.a\.epochs=0, stages\.plan\.b\.epochs=0: no stage is",
        ),
        ({}, r"stages\.plan is empty"),
    ],
)
def test_a_plan_that_is_none_is_refused(plan, said):
    with pytest.raises(RequestError, match=said):
        Plan.from_config(plan)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"form": "x"}, r"stages\.form is not an option; did you mean from\?"),
        ({"from": 3}, r"stages\.from=3: input should be a valid string"),
    ],
)
def test_options_that_are_none_are_refused(others, said):
    with pytest.raises(RequestError, match=said):
        stages(THREE, **others)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            {"a": {"freeze": ["heat"]}},
            r"stages\.plan\.a\.freeze names heat, which Toy does not have; its parts are base, h",
        ),
        ({"a": {"train": ["all"]}}, r"stages\.plan\.a\.train names all, which Toy does not have"),
        ({"a": {"epochs": 0, "freeze": ["x"]}, "b": {}}, r"stages\.plan\.a\.freeze names x, which Toy"),
        (
            {"a": {"train": []}},
            r"stages\.plan\.a trains no parameter of Toy: type stages\.plan\.a\.epochs=0 to skip it",
        ),
        ({"a": {"freeze": ["base", "head", "loose"]}}, r"stages\.plan\.a trains no parameter of Toy"),
    ],
)
def test_a_plan_of_another_model_is_refused(plan, said):
    with pytest.raises(MismatchError, match=said):
        stages(plan).require(Toy(), Trainer(logger=False))
    with pytest.raises(MismatchError, match=said):  # also by the callback alone, with a trainer of one's own
        trained(Toy(), stages(plan), 1)


@pytest.mark.parametrize(("leave_out", "times"), [(True, 0), (False, 2)])
def test_parts_that_leave_a_parameter_out_or_share_it_are_refused(leave_out, times, monkeypatch):
    parts = Toy.parts
    loose = (lambda self: [self.shift]) if leave_out else (lambda self: [self.shift, self.stretch, self.stretch])
    monkeypatch.setattr(Toy, "parts", lambda self: {**parts(self), "loose": loose(self)})
    with pytest.raises(
        MismatchError, match=rf"Toy has the parameter stretch in {times} of its parts \(base, head, loose\)"
    ):
        stages(THREE).require(Toy(), Trainer(logger=False))


@pytest.mark.parametrize("limit", [-1, 4])
def test_training_that_goes_on_after_the_last_stage_is_refused(limit):
    plan = {**THREE, "third": {"epochs": 0}}
    with pytest.raises(
        RequestError, match=rf"last 3 epochs, and trainer\.max_epochs={limit}: type trainer\.max_epochs=3, or"
    ):
        stages(plan).require(Toy(), Trainer(logger=False, max_epochs=limit))
    for fitting in (2, 3):
        stages(plan).require(Toy(), Trainer(logger=False, max_epochs=fitting))
    stages(THREE).require(Toy(), Trainer(logger=False, max_epochs=limit))
    stages(plan).require(Toy(), Trainer(logger=False, fast_dev_run=True))


@pytest.mark.parametrize(("epochs", "said"), [(2, "second"), (3, "third"), (4, None)])
def test_a_stage_that_never_begins_is_named(epochs, said, caplog):
    trained(Toy(), stages(THREE), epochs)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("pertexp")]
    assert len(messages) == (said is not None)
    if said == "second":
        assert "the stage second begins at epoch 2, and trainer.max_epochs=2: training ends before it" in messages[0]
        assert "and the score is that of a model without trained head; train longer" in messages[0]
        assert messages[0].endswith("(stages.plan.first.epochs=2).")
    if said == "third":
        assert "training ends before it; train longer" in messages[0]  # all parts are trained by then


# PRISM


@pytest.fixture(scope="module")
def pairs():
    return made(*SMALL, "data.lines_per_step=2", "data.batch_size=16")


def prism(*words: str, data: Any) -> tuple[Any, Stages]:
    config = composed(
        "model=prism", "model.backbone.filters=4", "model.backbone.width=8", "model.backbone.heads=2",
        "model.backbone.products=4", "model.terms.mutual_information.weight=0.1", *words,
    )  # fmt: skip
    loss, optimizer = build(config.loss, "loss"), build(config.optimizer, "optimizer")
    return build(config.model, "model")(data=data, loss=loss, optimizer=optimizer), build(config.stages, "stages")


def test_the_parts_of_prism_move_in_the_stages_of_its_curriculum(pairs):
    model, plan = prism(data=pairs)
    seen = trained(model, plan, 3, pairs, limit_train_batches=2)
    weights, everything = {name for name, _ in model.named_parameters()}, names(model, *model.parts())
    assert weights == everything
    environment, terms = names(model, "environment"), names(model, "terms")
    assert seen.trainable == [everything - environment, everything - environment, everything]
    # The terms have no value in the warm-up, so that what learns for them has no gradient.
    without = everything - environment - terms
    assert [moved & weights for moved in seen.moved] == [without, without, everything]
    statistics = {name for name in seen.moved[2] if name.startswith("network.apart.")}
    assert len(statistics) == 3
    assert not statistics & (seen.moved[0] | seen.moved[1])


def test_prism_trains_in_the_two_stages_of_any_model(pairs):
    model, plan = prism("stages=two_stage", "stages.plan.base.epochs=1", data=pairs)
    seen = trained(model, plan, 2, pairs, limit_train_batches=2)
    weights = {name for name, _ in model.named_parameters()}
    base = names(model, "backbone", "interaction")
    assert seen.trainable == [base, weights - base]
    assert [moved & weights for moved in seen.moved] == [base, weights - base]


def test_prism_keeps_its_environment_where_a_later_stage_freezes_it(pairs):
    model, _ = prism(data=pairs)
    plan = {"joint": {"epochs": 1}, "tail": {"epochs": None, "freeze": ["environment"]}}
    seen = trained(model, stages(plan), 2, pairs, limit_train_batches=1)
    assert int(model.active_epochs) == 1
    assert not seen.moved[1] & names(model, "environment")
    assert names(model, "terms") <= seen.moved[1]


def test_a_sweep_over_the_epochs_of_a_stage_composes():
    parsed = OverridesParser.create().parse_overrides(["model=prism", "stages.plan.warm_up.epochs=0,2"])
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    plans = [build(composed(*job).stages, "stages").plan for job in jobs]
    assert [(plan.at(0), plan.at(3)) for plan in plans] == [
        (("joint", 0), ("joint", 3)),
        (("warm_up", 0), ("joint", 1)),
    ]


# the command


class Start(Callback):
    """Keeps the weights with which training begins: `+callbacks.start._target_=<this module>.Start`."""

    weights: ClassVar[dict[str, torch.Tensor]] = {}

    def on_fit_start(self, _: Trainer, pl_module: Any) -> None:
        Start.weights.update({name: one.clone() for name, one in pl_module.state_dict().items()})


# Five steps an epoch; a stage an epoch: all but the environment, the environment on a frozen backbone, all.
WORDS = (
    *PRISM,
    "data.simulator.n_pairs=120",
    "data.batch_size=16",
    "trainer.max_epochs=3",
    "evaluation.n_draws=1",
    "stages.plan.warm_up.epochs=1",
    "stages.plan.joint.epochs=1",
    "stages.plan.joint.freeze=[backbone]",
    "+stages.plan.tail={epochs: null, train: all, freeze: []}",
    "callbacks.best.first_epoch=2",
    "callbacks.last.every_n_train_steps=1",
    "~logger",
    "+callbacks.diary._target_=killing.Diary",
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that nothing interrupts: its folder and its diary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("reference")))
        done, diary = run(*WORDS)
    assert done.code == 0, done.err
    return done.folder, diary


@pytest.mark.medium
def test_a_run_interrupted_in_every_stage_ends_with_equal_bits(reference, outputs):
    folder, diary = reference
    killed = interrupted(outputs, "batch_start", 4, *WORDS)  # three of five steps of the first stage are done
    for epoch in (1, 2):  # the two that are left, and three of the next stage
        killed = interrupted(outputs, "batch_start", 6, *WORDS, f"ckpt_path={killed}/checkpoints/last.ckpt")
        last = torch.load(killed / "checkpoints" / "last.ckpt", weights_only=True)
        assert (last["epoch"], last["global_step"], last["between_epochs"]) == (epoch, 5 * epoch + 3, False)
    done, resumed = run(*WORDS, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert (done.code, done.err) == (0, "")
    assert resumed == diary[-len(resumed) :]
    assert_same_end(done.folder, folder)


def test_resuming_with_another_plan_is_refused_by_name(reference):
    folder, _ = reference
    refused = command(*WORDS, "stages.plan.warm_up.epochs=2", f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert refused.code == 2
    assert "last.ckpt was trained with stages.plan.warm_up.epochs=1, and this run has 2" in refused.err


@pytest.mark.medium
def test_a_run_begins_from_the_weights_of_another(reference, outputs):
    folder = shutil.copytree(reference[0], outputs / "before")
    start = f"+callbacks.start._target_={__name__}.Start"
    words = (*WORDS, "loss=bce", "trainer.max_epochs=1", "stages.plan.warm_up.epochs=0", f"stages.from={folder}")
    Start.weights.clear()
    done = command(*words, start)
    assert done.code == 0, done.err
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    kept = {name: tensor for name, tensor in best.items() if not name.startswith("loss.")}
    assert all(torch.equal(Start.weights[name], tensor) for name, tensor in kept.items())
    assert len(kept) == len([name for name in Start.weights if not name.startswith("loss.")])
    after = torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(after["network.backbone.enhancer.bias"], kept["network.backbone.enhancer.bias"])
    assert not torch.equal(after["network.held.0.weight"], kept["network.held.0.weight"])
    shutil.rmtree(folder)  # a run that is resumed has its own weights
    interrupted(
        outputs, "epoch_start", 1, *words, "trainer.max_epochs=2", f"ckpt_path={done.folder}/checkpoints/last.ckpt"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("data.split.fold=1",),
            "best.ckpt was trained on other data (fold differs): type the options of data and split",
        ),
        (("data.simulator.n_pairs=200",), "best.ckpt was trained on other data ("),
        (("model.environment_width=6",), "best.ckpt was trained with model.environment_width=5, and this run has 6"),
        (
            ("model.energy.lam.mode=fixed",),
            "best.ckpt was trained with model.energy.lam.mode=learned, and this run has f",
        ),
    ],
)
def test_the_weights_of_another_model_or_split_are_refused(words, said, reference, outputs):
    refused = command(*WORDS, *words, f"stages.from={reference[0]}")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert said in refused.err
    assert "stages.from=null" in refused.err
    assert not list(outputs.glob("runs/*/*"))


def test_a_folder_without_a_checkpoint_is_refused(outputs):
    refused = command(*WORDS, f"stages.from={outputs}")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"no checkpoint in {outputs}: type stages.from=outputs/runs/<date>/<run>" in refused.err


def test_changed_checkpoints_are_refused(reference, tmp_path):
    module, options = Toy(), {"name": "toy"}
    fitting = {"state_dict": module.state_dict(), "schema": {"split_hash": "a"}, "setting": {"model": options}}
    path = tmp_path / "best.ckpt"
    torch.save(fitting, path)
    begin_from(module, str(path), {"split_hash": "a"}, options)
    weights = {**module.state_dict(), "shift": torch.zeros(3)}
    for changed, kind, said in (
        ({**fitting, "state_dict": weights}, MismatchError, "belongs to another model .shift differs."),
        ({**fitting, "setting": {"model": {"name": "other"}}}, MismatchError, "trained with model.name=other"),
        ({**fitting, "schema": {"split_hash": "b"}}, DataError, "other data .split_hash differs."),
        ({"state_dict": module.state_dict()}, DataError, "holds weights but not what they mean"),
        ({**fitting, "state_dict": {"shift": torch.nn.Linear}}, DataError, "cannot be read as a checkpoint"),
    ):
        torch.save(changed, path)
        with pytest.raises(kind, match=said):
            begin_from(module, str(path), {"split_hash": "a"}, options)


def test_a_model_without_parts_is_refused_and_the_advice_works(outputs):
    refused = command(*TINY, "stages=two_stage")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "stages.plan.base.train names backbone, but NBGLM has no parts to train in stages: type stages=one." in (
        refused.err
    )
    assert not list(outputs.glob("runs/*/*"))
    assert composed("stages=one").stages == composed("model=nbglm").stages


def test_a_run_without_stages_is_refused():
    refused = command(*TINY, "~stages")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "~stages leaves out what every run needs: remove it, or type stages=<choice>" in refused.err
