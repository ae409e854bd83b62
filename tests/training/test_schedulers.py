"""Learning-rate schedules: the rate of every step of a real trainer, and that a resumed run goes on with it."""

import functools
import math
from copy import deepcopy

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning import Callback
from pair_runs import SMALL
from pair_runs import made as pairs
from places import ROOT
from resuming import WORDS, assert_same_end, interrupted, run
from small_gears import gears, screen_data
from small_nbglm import simulated
from small_prism import model as prism

from pertexp.config.errors import RequestError
from pertexp.config.instantiate import build
from pertexp.losses.counts import nb
from pertexp.models.nbglm import NBGLM
from pertexp.training.schedulers import configured, cosine, step, warm_up

BATCHES = 3  # of an epoch
LR = 0.1


class OneWeight(lightning.LightningModule):
    """The smallest model that a trainer steps."""

    def __init__(self, scheduler):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.make_scheduler = scheduler

    def training_step(self, batch, *_):
        return (self.weight * batch).sum()

    def configure_optimizers(self):
        return configured(torch.optim.SGD(self.parameters(), lr=LR), self.make_scheduler)


class Rates(Callback):
    """The learning rate of every parameter group, as each batch finds it."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, *_):
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def trainer(epochs, *callbacks, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "accelerator": "cpu", "limit_val_batches": 0}
    return lightning.Trainer(max_epochs=epochs, callbacks=list(callbacks), **quiet, **options)


def composed(*words):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("run", list(words))


def rates(*words, epochs=4, **options):
    """The rates of a trainer under the scheduler that these words compose."""
    config = composed(f"trainer.max_epochs={epochs}", *words)
    seen = Rates()
    loader = torch.utils.data.DataLoader(torch.ones(BATCHES), batch_size=1)
    trainer(epochs, seen, **options).fit(OneWeight(build(config.scheduler, "scheduler")), loader)
    return [rate for (rate,) in seen.seen]


def by_epoch(*factors):
    return pytest.approx([LR * factor for factor in factors for _ in range(BATCHES)], rel=1e-12)


def test_constant_is_the_default_and_no_scheduler_at_all():
    assert rates() == [LR] * 12
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=LR)
    assert configured(optimizer, build(composed().scheduler, "scheduler")) is optimizer


def test_step_multiplies_after_each_epoch():
    assert rates("scheduler=step") == by_epoch(1, 0.5, 0.25, 0.125)
    assert rates("scheduler=step", "scheduler.gamma=0.9", "scheduler.step_size=2") == by_epoch(1, 1, 0.9, 0.9)
    each = rates("scheduler=step", "scheduler.interval=step", "scheduler.step_size=5")
    assert each == pytest.approx([LR] * 5 + [LR / 2] * 5 + [LR / 4] * 2, rel=1e-12)


def test_cosine_reaches_its_floor_when_training_ends():
    half = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert rates("scheduler=cosine") == by_epoch(*half)
    assert rates("scheduler=cosine", "scheduler.floor=0.2") == by_epoch(*(0.2 + 0.8 * share for share in half))
    # 1, then the middle of 1 and 0.2, then the floor, from which it does not rise
    early = rates("scheduler=cosine", "scheduler.floor=0.2", "scheduler.duration=2", epochs=6)
    assert early == by_epoch(1, 0.6, 0.2, 0.2, 0.2, 0.2)


def test_warm_up_rises_by_steps_of_the_optimizer_and_then_stays():
    words = ("scheduler=warm_up", "scheduler.steps=4", "scheduler.start=0.2")
    rise = [0.2, 0.4, 0.6, 0.8]
    assert rates(*words) == pytest.approx([LR * f for f in (*rise, *[1] * 8)], rel=1e-12)
    accumulated = rates(*words, accumulate_grad_batches=BATCHES)  # one step an epoch
    assert accumulated == by_epoch(*rise)


def test_warm_up_may_be_followed_by_a_decay():
    words = (
        "scheduler=warm_up",
        "scheduler.steps=2",
        "scheduler.start=0",
        "scheduler.decay_steps=6",
        "scheduler.floor=0.1",
    )
    fall = [0.1 + 0.9 * (1 + math.cos(math.pi * t / 6)) / 2 for t in range(6)]
    assert rates(*words) == pytest.approx([LR * f for f in (0, 0.5, *fall, *[0.1] * 4)], rel=1e-12, abs=1e-15)


def test_each_parameter_group_keeps_its_share():
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]], "lr": 1.0}, {"params": [weights[1]], "lr": 0.1}])
    schedule = cosine(optimizer, duration=2, floor=0.5, interval="epoch")["scheduler"]
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.75, 0.075])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("scheduler=step scheduler.gamma=0", r"scheduler\.gamma=0: expected a factor above 0"),
        ("scheduler=step scheduler.gamma=1.5", r"scheduler\.gamma=1\.5"),
        ("scheduler=step scheduler.step_size=0", r"scheduler\.step_size=0: expected at least 1"),
        ("scheduler=step scheduler.interval=batch", r"scheduler\.interval=batch"),
        ("scheduler=step +scheduler.gama=0.5", r"scheduler\.gama is not an option of .*did you mean gamma"),
        ("scheduler=cosine trainer.max_epochs=null", r"scheduler\.duration=null.*type trainer\.max_epochs"),
        ("scheduler=cosine trainer.max_epochs=-1", r"scheduler\.duration=-1.*type trainer\.max_epochs"),
        ("scheduler=step scheduler.gamma=1.000001", r"scheduler\.gamma=1\.000001"),
        ("scheduler=cosine scheduler.floor=1.000001", r"scheduler\.floor=1\.000001.*from 0 to 1"),
        ("scheduler=cosine scheduler.floor=-1e-9", r"scheduler\.floor=-1e-09.*from 0 to 1"),
        ("scheduler=warm_up scheduler.floor=-1e-9", r"scheduler\.floor=-1e-09.*from 0 to 1"),
        ("scheduler=warm_up scheduler.start=1.000001", r"scheduler\.start=1\.000001"),
        ("scheduler=warm_up scheduler.steps=0", r"scheduler\.steps=0"),
        ("scheduler=warm_up scheduler.start=-1", r"scheduler\.start=-1"),
        ("scheduler=warm_up scheduler.decay_steps=0", r"scheduler\.decay_steps=0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(words, said):
    with pytest.raises(RequestError, match=said):
        build(composed(*words.split()).scheduler, "scheduler")(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]))


def test_values_at_the_ends_of_their_ranges():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=LR)
    step(optimizer, gamma=1.0, step_size=1, interval="epoch")
    for floor in (0.0, 1.0):
        cosine(optimizer, duration=1, floor=floor, interval="epoch")
        warm_up(optimizer, steps=1, start=floor, decay_steps=1, floor=floor, interval="step")
    of_none = cosine(optimizer, duration=0, floor=0.5, interval="epoch")["scheduler"]  # trainer.max_epochs=0
    assert of_none.get_last_lr() == [LR]


def test_advice_about_the_cosine_works_when_followed():
    steps = ("scheduler=cosine", "trainer.max_epochs=null", "scheduler.duration=2", "scheduler.interval=step")
    schedule = build(composed(*steps).scheduler, "scheduler")(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]))
    assert schedule["interval"] == "step"


# The families


@pytest.mark.parametrize("family", ["nbglm", "gears", "prism"])
def test_every_family_takes_a_scheduler(family):
    factory = functools.partial(step, gamma=0.5, step_size=1, interval="epoch")
    adamw = functools.partial(torch.optim.AdamW, lr=LR)
    made = {
        "nbglm": lambda **options: NBGLM.from_data(simulated(), nb, adamw, **options),
        "gears": lambda **options: gears(screen_data(), **options),
        "prism": lambda **options: prism(pairs(*SMALL, "data.lines_per_step=2"), **options),
    }[family]
    assert isinstance(made().configure_optimizers(), torch.optim.Optimizer)
    chosen = made(scheduler=factory).configure_optimizers()
    assert chosen["lr_scheduler"]["interval"] == "epoch"
    assert chosen["lr_scheduler"]["scheduler"].optimizer is chosen["optimizer"]
    assert chosen["lr_scheduler"]["scheduler"].gamma == 0.5


def test_the_learning_rate_of_gears_halves_after_each_epoch():
    seen, data = Rates(), screen_data()
    optimizer, scheduler = (build(composed("model=gears")[name], name) for name in ("optimizer", "scheduler"))
    model = gears(data, scheduler=scheduler)
    model.make_optimizer = optimizer
    trainer(3, seen, limit_train_batches=2).fit(model, datamodule=data)
    assert seen.seen == [[rate] for rate in (1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4)]


class Norms(Callback):
    """The largest norm of an embedding after each step."""

    def __init__(self):
        self.after = []

    def on_train_batch_end(self, _, module, *__):
        self.after.append(max(weight.detach().norm(dim=1).max().item() for weight in embeddings(module)))


def embeddings(module):
    return [child.weight for child in module.network.modules() if isinstance(child, torch.nn.Embedding)]


def test_gears_pulls_embeddings_back_into_the_unit_ball_after_each_step():
    data, seen = screen_data(), Norms()
    model = gears(data)
    model.make_optimizer = functools.partial(torch.optim.Adam, lr=0.5)  # steps that leave the ball
    with torch.no_grad():
        for weight in embeddings(model):
            weight.mul_(10)
    assert len(embeddings(model)) > 0
    trainer(1, seen, limit_train_batches=3).fit(model, datamodule=data)
    assert len(seen.after) == 3
    assert max(seen.after) <= 1 + 1e-5
    assert min(seen.after) > 0.99  # and no further


# The proximal step of the NB-GLM


class Batches(Callback):
    """The batches that were trained on."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, _, __, batch, ___):
        self.seen.append(deepcopy(batch))


def test_the_l1_step_of_the_nbglm_is_one_in_the_metric_of_adam_at_the_scheduled_rate():
    """Two steps by hand, from gradients to thresholds l1 · lr / (√v̂ + ε), with lr halved between them."""
    l1, (b1, b2), eps, seen = 2e-2, (0.9, 0.999), 1e-8, Batches()
    data = simulated()
    adamw = functools.partial(torch.optim.AdamW, lr=LR, betas=(b1, b2), eps=eps, weight_decay=0.0)
    halved = functools.partial(step, gamma=0.5, step_size=1, interval="step")
    model = NBGLM.from_data(data, nb, adamw, halved, regularization={"l1": l1}).double()
    by_hand = deepcopy(model)
    trainer(1, seen, limit_train_batches=2, precision="64-true").fit(model, datamodule=data)
    parameters = {name: p for name, p in by_hand.named_parameters() if p.requires_grad}
    moments = {name: [torch.zeros_like(p), torch.zeros_like(p)] for name, p in parameters.items()}
    shrunk = 0
    for number, batch in enumerate(seen.seen, start=1):
        lr = LR * 0.5 ** (number - 1)
        gradients = torch.autograd.grad(by_hand._data_loss(batch), list(parameters.values()))
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            first, second = moments[name]
            first.mul_(b1).add_((1 - b1) * gradient)
            second.mul_(b2).add_((1 - b2) * gradient**2)
            length = lr / ((second / (1 - b2**number)).sqrt() + eps)
            with torch.no_grad():
                moved = parameter - length * first / (1 - b1**number)
                if name == "network.factors.K":
                    moved = moved.sign() * (moved.abs() - l1 * length).clamp(min=0)
                    shrunk += int((moved == 0).sum())
                parameter.copy_(moved)
    assert shrunk > 0
    for name, parameter in parameters.items():
        found = dict(model.named_parameters())[name]
        torch.testing.assert_close(found, parameter, rtol=1e-9, atol=1e-12, msg=name)


# Resuming


class RatesOfCommand(Callback):
    """The learning rate of every step of a command in this process."""

    seen: dict = {}  # noqa: RUF012  (the trainer builds its own callback)

    def on_train_batch_start(self, trainer, *_):
        self.seen[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]


@pytest.mark.medium
def test_a_killed_run_goes_on_with_its_learning_rate(tmp_path, monkeypatch):
    """Where it counts steps; test_gears and test_batch_layouts do the same where it counts epochs."""
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    rates_of_command = f"+callbacks.rates._target_={__name__}.RatesOfCommand"
    words = (*WORDS, "scheduler=warm_up", "scheduler.steps=12", rates_of_command)
    RatesOfCommand.seen.clear()
    whole, diary = run(*words)
    expected = dict(RatesOfCommand.seen)
    assert len(set(expected.values())) == 13
    killed = interrupted(tmp_path, "batch_start", 4, *words)
    RatesOfCommand.seen.clear()
    done, resumed = run(*words, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert done.code == 0, done.err
    assert resumed == diary[-len(resumed) :]
    assert RatesOfCommand.seen == {number: rate for number, rate in expected.items() if number >= 2}
    assert_same_end(done.folder, whole.folder)
