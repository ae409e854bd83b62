"""PRISM: what it refuses, its stages, its checkpoint, and what it finds where something was planted."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from command import command
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import OmegaConf
from pair_runs import SMALL, composed, made
from sklearn.metrics import roc_auc_score
from small_prism import ADAMW, LITTLE, model

from pertexp.config.errors import DataError, MismatchError, RequestError
from pertexp.config.instantiate import build
from pertexp.config.validate import typed
from pertexp.data.pairs.datamodule import PairData
from pertexp.losses.counts import nb
from pertexp.losses.interaction import BinaryCrossEntropy, Immax
from pertexp.metrics.pairs import ScoredPairs, auroc
from pertexp.models.backbones.cnn import Cnn
from pertexp.models.prism import PRISM
from pertexp.models.prism.options import PrismOptions
from pertexp.models.protocols import StageEpoch
from pertexp.training.checkpoints import KeepBest
from pertexp.training.from_epoch import EarlyStoppingFromEpoch, KeepBestFromEpoch
from pertexp.training.stages import Stages, parameters_of, warn_without_stages


@pytest.fixture(scope="module")
def data() -> PairData:
    return made(*SMALL, "data.lines_per_step=2", "data.batch_size=16")


def first(data: PairData) -> dict[str, torch.Tensor]:
    return next(iter(data.train_dataloader()))


# what it refuses


def test_a_loss_of_counts_is_refused(data) -> None:
    with pytest.raises(
        MismatchError, match=r"loss=nb needs cells, counts, .*, and model=prism hands over label, logit"
    ):
        PRISM.from_data(data, nb, ADAMW, LITTLE)


def test_classes_are_not_balanced_twice() -> None:
    sampled = made(*SMALL, "data.lines_per_step=2", "data.positives=[0.45,0.55]")
    with pytest.raises(RequestError, match=r"data.positives=\[0.45, 0.55\].*corrects twice"):
        PRISM.from_data(sampled, Immax(), ADAMW, LITTLE)
    PRISM.from_data(sampled, BinaryCrossEntropy(), ADAMW, LITTLE)


def test_terms_that_could_only_be_constant_are_refused_from_the_data() -> None:
    alone = made(*SMALL, "data.lines_per_step=1")
    with pytest.raises(RequestError, match="in batches of one line"):
        model(alone, queue=0)
    assert set(model(alone, queue=32).terms) >= {"invariance", "contrastive"}


def test_batches_that_cannot_be_had_are_refused_with_the_model() -> None:
    with pytest.raises(RequestError, match=r"data.lines_per_step=100 was asked for, and there are \d+ training lines"):
        model(made(*SMALL, "data.lines_per_step=100"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"invariant_width": 0}, "model.invariant_width=0"),
        ({"energy": {"resistance": "cell"}}, "model.energy.resistance=cell"),
        ({"terms": {"correlation": {"weight": -1.0}}}, "model.terms.correlation.weight=-1.0"),
        ({"terms": {"correlation": {"weight": float("inf")}}}, "model.terms.correlation.weight=inf"),
        ({"energy": {"lam": {"value": float("nan")}}}, "model.energy.lam.value=nan: input should be a finite number"),
        ({"energy": {"temperature": {"low": 2.0, "high": 0.5}}}, "temperature.low=2 and high=0.5: expected"),
        ({"energy": {"temperature": {"low": -1.0, "high": 2.0}}}, "temperature.low=-1 and high=2: expected"),
        ({"energy": {"temperature": {"l2": float("nan")}}}, "model.energy.temperature.l2=nan: expected 0 or more"),
        ({"terms": {"orthogonality": {"weight": 1.0}}}, "model.terms.orthogonality is not an option"),
    ],
)
def test_options_that_are_none_are_refused(data, options, said) -> None:
    with pytest.raises(RequestError, match=said):
        model(data, **options)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model=prism", "data=simulated_screen"), "data=simulated_screen and model=prism do not fit one another"),
        (("model=gears", "data=simulated_pairs"), "model=gears does not fit the other choices: it sets data/batches"),
        (
            ("model=nbglm", "model/ablation=lambda_zero"),
            "model=nbglm and model/ablation=lambda_zero do not fit",
        ),
    ],
)
def test_kinds_that_do_not_fit_are_named_and_no_option_that_nobody_typed_is_blamed(words, said) -> None:
    refused = command(*words, "print_config=false")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert said in refused.err


def test_a_step_holds_as_many_lines_as_there_are_up_to_four() -> None:
    few = made(*SMALL, "data.lines_per_step=null")
    assert few.lines_in_step == len(few.design.train_lines) == 2
    many = made(*SMALL, "data.simulator.n_lines=7", "data.lines_per_step=null")
    assert (many.lines_in_step, len(many.design.train_lines)) == (4, 6)
    assert made(*SMALL, "data.lines_per_step=1").lines_in_step == 1


# stages


WARM_UP, JOINT = StageEpoch("warm_up", 0, {}), StageEpoch("joint", 3, {"environment": 3})


def test_before_it_is_active_the_environment_has_no_effect_and_no_gradient(data) -> None:
    own, batch = model(data), first(data)
    own.begin_epoch(WARM_UP)
    view = own(batch)
    assert view.line is None
    torch.testing.assert_close(view.reading.logit, view.potential, rtol=1e-6, atol=1e-6)
    own._log = lambda *_, **__: None  # type: ignore[method-assign]
    own.training_step(batch, 0).backward()
    environment = list(parameters_of(own.parts()["environment"]))
    assert len(environment) == 11
    assert all(parameter.grad is None for parameter in environment)
    own.begin_epoch(JOINT)
    own.training_step(batch, 0).backward()
    assert all(parameter.grad is not None for parameter in environment)


def test_the_stage_lies_in_the_checkpoint(data) -> None:
    own = model(data)
    own.begin_epoch(WARM_UP)
    assert own.state_dict()["active_epochs"].item() == -1
    own.begin_epoch(JOINT)
    assert own.state_dict()["active_epochs"].item() == 3


def test_the_parts_are_what_they_are_called(data) -> None:
    own = model(data)
    names = {parameter: name for name, parameter in own.named_parameters()}
    prefixes = {
        part: {".".join(names[one].split(".")[:2]) for one in parameters_of(members)}
        for part, members in own.parts().items()
    }
    assert prefixes == {
        "backbone": {"network.backbone"},
        "interaction": {"network.invariant", "network.potential"},
        "environment": {"network.held", "network.environment", "network.energy"},
        "temperature": {"network.energy"},
        "terms": {"terms.invariance"},
    }
    assert [names[one] for one in parameters_of(own.parts()["temperature"])] == ["network.energy.t"]
    fixed = model(data, energy={"temperature": {"mode": "fixed"}})
    assert list(parameters_of(fixed.parts()["temperature"])) == []


class FakeTrainer:
    fast_dev_run = False

    def __init__(self, epoch: int, max_epochs: int | None = None) -> None:
        self.current_epoch = epoch
        self.max_epochs = max_epochs
        self.callbacks: list[object] = []


def curriculum(warm_up: int = 2) -> Stages:
    return Stages.from_config({"warm_up": {"epochs": warm_up, "freeze": ["environment"]}, "joint": {}})


def test_the_terms_ramp_once_the_warm_up_is_over(data) -> None:
    own, epochs = model(data), []
    for epoch in range(5):
        curriculum().on_train_start(FakeTrainer(epoch), own)  # type: ignore[arg-type]
        epochs.append(int(own.active_epochs))
    assert epochs == [-1, -1, 0, 1, 2]
    assert [own.options.terms.correlation.at(max(epoch, 0)) for epoch in epochs[2:]] == pytest.approx([0.1, 0.11, 0.12])


def test_a_plan_that_freezes_nothing_is_named(data, caplog) -> None:
    one = Stages.from_config({"joint": {}})
    warn_without_stages(model(data), curriculum())
    warn_without_stages(model(data), curriculum(0))
    warn_without_stages(torch.nn.Module(), one)
    warn_without_stages(model(data), Stages.from_config({"joint": {}}, **{"from": "outputs/runs/before"}))
    assert not caplog.records
    warn_without_stages(model(data), one)
    assert "PRISM has parts to train in stages (backbone, interaction, environment, temperature, terms)" in caplog.text
    assert "type stages=curriculum or stages=two_stage" in caplog.text


@pytest.mark.parametrize("kind", [EarlyStoppingFromEpoch, KeepBestFromEpoch])
def test_nothing_counts_before_the_first_epoch_that_does(kind, monkeypatch, tmp_path) -> None:
    seen = []
    for hook in ("on_validation_end", "on_train_epoch_end"):
        monkeypatch.setattr(kind.__mro__[1], hook, lambda _, trainer, __: seen.append(trainer.current_epoch))
    options = {"dirpath": str(tmp_path), "filename": "best"} if kind is KeepBestFromEpoch else {}
    callback = kind(monitor="val/auprc", mode="max", first_epoch=2, **options)
    for epoch in range(4):
        callback.on_validation_end(FakeTrainer(epoch), None)
        callback.on_train_epoch_end(FakeTrainer(epoch), None)
    assert seen == [2, 2, 3, 3]


@pytest.mark.parametrize(("max_epochs", "n_said"), [(2, 2), (3, 1), (4, 1), (5, 0), (-1, 0), (None, 0)])
def test_training_that_ends_before_a_stage_says_what_is_scored(data, max_epochs, n_said, tmp_path, caplog) -> None:
    best = KeepBestFromEpoch(str(tmp_path), "best", "val/auprc", first_epoch=4, mode="max")
    for callback in (curriculum(), best):
        callback.on_fit_start(FakeTrainer(0, max_epochs), model(data))  # type: ignore[arg-type]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == n_said
    assert all(f"trainer.max_epochs={max_epochs}" in line for line in said)
    assert not said or "no epoch is chosen by val/auprc, and the last one is scored" in said[-1]


def test_epochs_that_count_before_the_environment_is_trained_are_named(data, tmp_path, caplog) -> None:
    trainer = FakeTrainer(0, 30)
    best = KeepBestFromEpoch(str(tmp_path), "best", "val/auprc", first_epoch=4, mode="max")
    trainer.callbacks = [best, EarlyStoppingFromEpoch("val/auprc", first_epoch=8, mode="max")]
    for warm_up, names in ((2, []), (4, []), (5, ["best"]), (10, ["best", "early_stopping"])):
        caplog.clear()
        curriculum(warm_up).on_fit_start(trainer, model(data))  # type: ignore[arg-type]
        said = [record.getMessage() for record in caplog.records]
        assert [line.split(".")[1] for line in said] == names
        assert all(f"and stages.plan.warm_up.epochs={warm_up}: " in line for line in said)
        assert all("an epoch counts in which environment has not been trained yet" in line for line in said)
        assert all(line.endswith(f"first_epoch={warm_up} or more.") for line in said)


def test_callbacks_that_count_every_epoch_are_named(data, tmp_path, caplog) -> None:
    trainer = FakeTrainer(0, 30)
    trainer.callbacks = [KeepBest(str(tmp_path), "best", "val/loss"), EarlyStopping("val/loss")]
    curriculum().on_fit_start(trainer, model(data))  # type: ignore[arg-type]
    best, stopping = (record.getMessage() for record in caplog.records)
    assert "callbacks.best counts every epoch, and stages.plan.warm_up.epochs=2: " in best
    assert stopping.endswith("type callbacks=from_epoch callbacks.early_stopping.first_epoch=2 or more.")
    caplog.clear()
    curriculum(0).on_fit_start(trainer, model(data))  # type: ignore[arg-type]
    assert not caplog.records


# what it computes


def test_predictions_come_in_the_order_of_the_batches_whatever_their_size(data) -> None:
    own = model(data).eval()
    whole = own.predict(data.loader("test"))
    other = made(*SMALL, "data.lines_per_step=2", "data.batch_size=7")
    assert len(whole) == len(data.design.scored("test"))
    assert ((whole > 0) & (whole < 1)).all()
    np.testing.assert_allclose(own.predict(other.loader("test")), whole, rtol=1e-5)
    assert own.predict([]).shape == (0,)


def test_predicting_leaves_training_as_it_was(data) -> None:
    own = model(data).train()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    own.predict(data.loader("test"))
    assert own.training
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())


def test_no_label_of_a_support_set_is_looked_at(data) -> None:
    own, batch = model(data).eval(), first(data)
    assert not [name for name in batch if name.startswith("support") and "label" in name]
    changed = {**batch, "label": 1 - batch["label"]}
    torch.testing.assert_close(own(batch).reading.logit, own(changed).reading.logit, rtol=0, atol=0)


def test_the_line_is_known_by_its_support_set_alone(data) -> None:
    own, batch = model(data).eval(), first(data)
    renamed = {**batch, "line": batch["line"] * 0 + 2, "support_line": batch["support_line"] * 0 + 2}
    torch.testing.assert_close(own(batch).reading.logit, own(renamed).reading.logit, rtol=0, atol=0)
    other = {**batch, "support_enhancer": batch["support_enhancer"].flip(0).roll(3, -1)}
    assert not torch.equal(own(batch).reading.logit, own(other).reading.logit)


def test_a_checkpoint_alone_predicts_the_same(data, tmp_path) -> None:
    options = {"energy": {"temperature": {"mode": "per_line"}}, "environment_width": 5}
    own = model(data, Immax(), **options)
    own.begin_epoch(JOINT)
    torch.save(own.state_dict(), tmp_path / "weights.pt")
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    again = PRISM.from_checkpoint(weights, backbone=LITTLE, **options)
    np.testing.assert_array_equal(again.predict(data.loader("test")), own.predict(data.loader("test")))


def test_other_weights_are_refused() -> None:
    with pytest.raises(DataError, match="no weights of PRISM"):
        PRISM.from_checkpoint({"network.weight": torch.zeros(2)}, backbone=LITTLE)


@pytest.mark.parametrize(
    ("form", "resistance"),
    [("interaction", "line"), ("interaction", "sample"), ("interaction", "none"), ("linear", "sample")],
)
@pytest.mark.parametrize("mode", ["fixed", "learned", "per_line"])
def test_every_energy_trains(data, form, resistance, mode) -> None:
    energy = {"form": form, "resistance": resistance, "temperature": {"mode": mode}, "lam": {"mode": "learned"}}
    own = model(data, energy=energy)
    own._log = lambda *_, **__: None  # type: ignore[method-assign]
    own.begin_epoch(StageEpoch("joint", 0, {"environment": 0}))
    loss = own.training_step(first(data), 0)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in own.parameters())


def test_mixed_precision_trains_every_term_and_remembers_in_full(data) -> None:
    own = model(data, Immax(), terms={"mutual_information": {"weight": 0.1}})
    own._log = lambda *_, **__: None  # type: ignore[method-assign]
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            loss = own.training_step(first(data), 0)
        loss.backward()
        assert torch.isfinite(loss)
    remembered = [buffer for buffer in own.buffers() if buffer.is_floating_point()]
    assert all(buffer.dtype == torch.float32 for buffer in remembered)
    assert not torch.equal(own.network.apart.mean, torch.zeros_like(own.network.apart.mean))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"resistance": "none"}, "resistance=none"),
        ({"resistance": "line"}, "resistance=line"),
        ({"keep_order": True}, "keep_order=true"),
        ({"lam": {"mode": "fixed", "value": 0.0}}, "lam.mode=fixed"),
    ],
)
def test_what_the_linear_form_would_not_listen_to_is_refused(data, option, said) -> None:
    with pytest.raises(RequestError, match=f"model.energy.{said} has no effect with model.energy.form=linear"):
        model(data, energy={"form": "linear", **option})
    model(data, energy={"form": "interaction", **option})


def test_what_is_watched_names_its_chance(data) -> None:
    found = model(data).diagnostics(data)
    assert {"correlation", "adversary", "line_probe", "label_probe", "lambda"} <= set(found)
    assert found["adversary"].chance == pytest.approx(1 / len(data.design.train_lines))
    assert found["label_probe"].chance == 0.5
    assert found["lambda"].value == pytest.approx(0.1)
    assert {f"resistance/{line}" for line in data.design.lines} <= set(found)
    assert "fewer than the 5000" in found["correlation"].note


# the command


GUARDS = (
    "model.energy.lam.value=0.01", "optimizer.weight_decay=1e-3", "model.terms.correlation.weight=0.5",
    "model.terms.mutual_information.weight=0.1", "model.terms.sparsity.weight=0.001", "model.terms.sparsity.norm=l2",
    "model.energy.temperature.low=0.5 model.energy.temperature.high=2.0", "model.energy.temperature.l2=0.1",
    "model.backbone.dropout=0.3", "model.energy.form=linear", "model.energy.keep_order=true", "loss=focal",
    "loss.rho=difficulty", "data.positives=[0.45,0.55] loss=bce",
)  # fmt: skip


@pytest.mark.medium
@pytest.mark.parametrize("words", GUARDS)
def test_every_guard_of_the_document_is_one_line(words: str) -> None:
    config = composed("model=prism", *SMALL, "data.lines_per_step=2", *words.split())
    own, loss = build(config.data, "data"), build(config.loss, "loss")
    made_of = build(config.model, "model")(data=own, loss=loss, optimizer=ADAMW)
    assert isinstance(made_of, PRISM)


def test_start_weights_ramps_and_caps_of_the_file_are_those_of_the_code() -> None:
    plain = OmegaConf.to_container(composed("model=prism").model)
    options = {key: value for key, value in plain.items() if not key.startswith("_") and key != "backbone"}
    assert typed(PrismOptions, options, "model") == PrismOptions()
    assert build(composed("model=prism").model.backbone, "model.backbone") == Cnn()


def test_an_ablation_takes_away_what_it_names() -> None:
    without = composed("model=prism", "model/ablation=no_environment").model
    assert without.energy.resistance == "none"
    assert composed("model=prism", "model/ablation=lambda_zero").model.energy.lam.value == 0
    assert composed("model=prism", "model/ablation=no_prototype").model.terms.prototype.weight == 0


SHORT = (
    "model=prism", "data=simulated_pairs", "data/split=line", "data.simulator.enhancer_length=[110,130]",
    "data.simulator.promoter_length=[110,130]", "data.enhancer_length=130", "data.promoter_length=130",
    "model.backbone.layers=0", "~callbacks.progress", "+trainer.enable_progress_bar=false", "print_config=false",
    "evaluation.n_draws=1", "evaluation.n_resamples=500",
)  # fmt: skip


def own_rows(folder, name: str = "prism") -> pd.DataFrame:
    table = pd.read_parquet(folder / "predictions.parquet")
    return table[table["model"] == name].sort_values(["cell_line", "enhancer", "promoter"])


def gained(one: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    """95 % interval of the difference in AUROC, over chromosomes."""
    assert one["label"].tolist() == other["label"].tolist()
    names, place = np.unique(one["chromosome"], return_inverse=True)
    rng = np.random.default_rng(0)
    draws = np.stack([np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(500)])
    label, weight = one["label"].to_numpy(), draws[:, place].astype(float)
    a, b = (auroc(ScoredPairs(table["probability"].to_numpy(), label, None, weight)) for table in (one, other))
    return np.quantile(a - b, [0.025, 0.975])


@pytest.mark.slow
def test_on_an_unseen_line_the_environment_is_worth_what_was_planted(tmp_path, monkeypatch) -> None:
    """PRISM beats k-mer boosting, itself with an element or the support taken away, and itself trained without one."""
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    done = command(*SHORT, "trainer.max_epochs=14")
    assert done.code == 0, done.err
    own = own_rows(done.folder)
    for name in ("kmer_boosting", "prism (enhancer only)", "prism (promoter only)", "prism (permuted support)"):
        assert gained(own, own_rows(done.folder, name))[0] > 0, name
    document = json.loads((done.folder / "metrics.json").read_text())
    diagnostics = document["diagnostics"]
    assert diagnostics["line_probe"]["value"] - diagnostics["line_probe"]["chance"] < 0.08
    assert diagnostics["label_probe"]["value"] - diagnostics["label_probe"]["chance"] > 0.08
    without = command(*SHORT, "trainer.max_epochs=14", "model/ablation=no_environment")
    assert without.code == 0, without.err
    assert gained(own, own_rows(without.folder))[0] > 0


@pytest.mark.slow
def test_where_nothing_was_planted_nothing_is_found(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PERTEXP_OUTPUTS", str(tmp_path))
    done = command(*SHORT, "trainer.max_epochs=4", "data.simulator.null_version=true")
    assert done.code == 0, done.err
    own = own_rows(done.folder)
    assert abs(roc_auc_score(own["label"], own["probability"]) - 0.5) < 0.06
