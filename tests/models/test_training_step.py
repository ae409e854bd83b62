"""One training step of each family: the whole loss by hand from what the network puts out, and the step that follows.

The networks are taken as they are; what follows them is computed once more, in float64 and without `pertexp.losses`.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pair_runs import SMALL, made
from scipy import special, stats
from small_gears import gears
from small_gears import screen_data as gears_data
from small_nbglm import ADAMW, simulated
from small_prism import model as prism
from torch.nn import functional

from pertexp.data.screens.batch_layouts import PseudobulkBatches
from pertexp.losses import counts
from pertexp.losses.gears import GearsLoss
from pertexp.losses.interaction import BinaryCrossEntropy, Focal, Immax
from pertexp.losses.squared_error import SquaredError
from pertexp.models.nbglm import NBGLM
from pertexp.models.protocols import StageEpoch


def step(model, batch) -> torch.Tensor:
    """What the training step returns, with nothing logged."""
    model.log = lambda *_, **__: None
    return model.training_step(batch, 0)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def adds_up(total, terms: dict[str, float]) -> None:
    """The total is the sum of the terms, and no term is too small to be missed."""
    found = total.item()
    assert found == pytest.approx(sum(terms.values()), rel=2e-5)
    small = {name: value for name, value in terms.items() if abs(value) < 1e-3 * abs(found)}
    assert not small


# NB-GLM


def fitted_nbglm(data, loss=counts.nb, **options) -> NBGLM:
    torch.manual_seed(0)
    return NBGLM.from_data(data, loss, ADAMW, **options)


@pytest.fixture(scope="module")
def counted():
    return simulated()


def rows_of(data, n=40):
    rows, role = data.batches.rows(data.design)
    return rows.take(np.flatnonzero(np.isin(role, ("train", "control")))[-n:])


def negative_binomial(y, mu, theta, n, *, whole: bool) -> np.ndarray:
    size = n * theta
    value = -stats.nbinom.logpmf(y, size, size / (size + mu))
    if whole:
        return value
    best = np.where(y > 0, y, 1e-300)  # the mean that fits the count itself
    return value + stats.nbinom.logpmf(y, size, size / (size + best))


FORMULAS = {
    "nb": lambda y, mu, theta, n: negative_binomial(y, mu, theta, n, whole=False),
    "poisson_deviance": lambda y, mu, _theta, _n: 2 * (special.xlogy(y, y / mu) - (y - mu)),
    "mse": lambda y, mu, _theta, n: n * (y / n - mu / n) ** 2,
    "mse_log1p": lambda y, mu, _theta, n: n * (np.log1p(y / n) - np.log1p(mu / n)) ** 2,
}
LOSSES = {"nb": counts.nb, "poisson_deviance": counts.poisson_deviance, "mse": SquaredError(),
          "mse_log1p": counts.mse_log1p}  # fmt: skip


def data_loss(model, rows, formula) -> float:
    offset = rows["log_size"]
    mu = array(model.network(rows["perturbation"], rows["context"], rows["phase"], offset).exp())
    n = array(rows["cells"])[:, None]
    values = formula(array(rows["counts"]), mu, array(model.network.theta), n)
    return float(values.sum() / (n.sum() * values.shape[1]))


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("pseudobulk", [False, True])
def test_nbglm_adds_its_l2_penalty_to_the_loss_of_every_kind(name, pseudobulk, counted):
    data = simulated(PseudobulkBatches()) if pseudobulk else counted
    model, rows = fitted_nbglm(data, LOSSES[name], regularization={"l2": 0.02}), rows_of(data)
    assert (rows["cells"].max() > 1) == pseudobulk
    terms = {"data": data_loss(model, rows, FORMULAS[name]),
             "l2": 0.02 * (array(model.network.factors["K"]) ** 2).sum()}  # fmt: skip
    adds_up(step(model, rows), terms)


def test_nbglm_with_learned_dispersions_has_the_whole_likelihood_and_penalises_the_product_of_its_factors(counted):
    model = fitted_nbglm(counted, rank=3, dispersion="learned", regularization={"l2": 0.02})
    rows = rows_of(counted)
    kernel = array(model.network.factors["A"]) @ array(model.network.factors["B"]).T
    whole = lambda y, mu, theta, n: negative_binomial(y, mu, theta, n, whole=True)  # noqa: E731
    adds_up(step(model, rows), {"data": data_loss(model, rows, whole), "l2": 0.02 * (kernel**2).sum()})


def first_adam_step(parameter: torch.Tensor, gradient: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where the first step of Adam leads, and its step length for each entry: lr / (|g| + ε)."""
    length = 5e-3 / (np.abs(array(gradient)) + 1e-8)
    return array(parameter) - length * array(gradient), length


def stepped(model, rows) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Take one step; for each factor of K where Adam alone would lead, and its step lengths."""
    optimizer, expected = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0), {}

    def closure():
        loss = step(model, rows)
        loss.backward()
        expected.update({name: first_adam_step(own, own.grad) for name, own in model.network.factors.items()})
        return loss

    model.optimizer_step(0, 0, optimizer, closure)
    return expected


def test_nbglm_ends_a_step_with_the_proximal_step_of_l1(counted):
    model = fitted_nbglm(counted, regularization={"l1": 5e-3})
    adam, length = stepped(model, rows_of(counted))["K"]
    expected = np.sign(adam) * np.maximum(np.abs(adam) - 5e-3 * length, 0)
    found = array(model.network.factors["K"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert 0 < (found == 0).sum() < found.size


def test_nbglm_ends_a_step_with_the_proximal_step_of_the_group_penalty(counted):
    """x + t x/‖x‖ = z in every column: the stationary point of Σ (x − z)²/(2t) + ‖x‖."""
    model = fitted_nbglm(counted, rank=3, regularization={"group": 1e-3})
    for name, (adam, length) in stepped(model, rows_of(counted)).items():
        found = array(model.network.factors[name])
        kept = np.linalg.norm(found, axis=0) > 0
        assert kept.any()
        x, z, t = found[:, kept], adam[:, kept], 1e-3 * length[:, kept]
        np.testing.assert_allclose(x + t * x / np.linalg.norm(x, axis=0), z, rtol=1e-3, atol=1e-5)
        assert np.abs(x - z).max() > 1e-3


# GEARS


@pytest.fixture(scope="module")
def cells():
    data = gears_data()
    data.setup("fit")
    return data, next(iter(data.train_dataloader()))


def perturbed(model, batch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y, ŷ = control cell + δ, mean control and e^−v (1 without a head) `[B, G]`, each cell's set by itself."""
    condition = batch["perturbation"].numpy()
    delta, log_variance = model._effects(model.sets, condition, batch["context"].numpy())
    precision = np.ones_like(delta) if log_variance is None else np.exp(-log_variance)
    y, control = array(batch["counts"]), array(model.control)[batch["context"].numpy()]
    return y, array(batch["control"]) + delta, control, precision


def over_conditions(value: np.ndarray, condition: np.ndarray, expressed: np.ndarray) -> float:
    """Mean over conditions of the mean over their cells and expressed genes."""
    return float(np.mean([value[condition == one][:, expressed[one]].mean() for one in np.unique(condition)]))


def expressed_in(data) -> np.ndarray:
    """`[P, G]` genes that any cell of a training or validation perturbation expresses; all of control."""
    screen, known = data.design.screen, data.design.cells("train", "val")
    rows = [known & (screen.perturbation == one) for one in range(len(screen.perturbations))]
    held = np.stack([(screen.expression[row].toarray() > 0).any(axis=0) | (not row.any()) for row in rows])
    held[0] = True
    return held


UNCERTAIN = {
    "none": lambda error, _precision: np.abs(error) ** 3.5,
    "ranking": lambda error, precision: np.abs(error) ** 3.5 * (1 + 0.7 * precision),
    "gaussian": lambda error, precision: 0.5 * (error**2 * precision - np.log(precision)),
}


@pytest.mark.parametrize("genes", ["expressed", "all"])
@pytest.mark.parametrize("uncertainty", UNCERTAIN)
def test_gears_adds_the_direction_to_the_error(uncertainty, genes, cells):
    data, batch = cells
    loss = GearsLoss(1.5, "tanh", 0.3, uncertainty, 0.7, genes)
    model = gears(data, loss).eval()  # batch statistics would make δ another one in every batch
    y, predicted, control, precision = perturbed(model, batch)
    counted = expressed_in(data) if genes == "expressed" else np.ones((len(model.perturbations), y.shape[1]), bool)
    condition = batch["perturbation"].numpy()
    assert len(np.unique(condition)) > 3
    assert (precision.std() > 0) == (uncertainty != "none")
    direction = 0.3 * (np.tanh(y - control) - np.tanh(predicted - control)) ** 2
    terms = {
        "error": over_conditions(UNCERTAIN[uncertainty](predicted - y, precision), condition, counted),
        "direction": over_conditions(direction, condition, counted),
    }
    adds_up(step(model, batch), terms)


def test_gears_with_squared_error_is_a_mean_over_cells_and_all_genes(cells):
    data, batch = cells
    model = gears(data, SquaredError()).eval()
    y, predicted, _, _ = perturbed(model, batch)
    adds_up(step(model, batch), {"error": ((predicted - y) ** 2).mean()})


# PRISM


@pytest.fixture(scope="module")
def pairs():
    return made(*SMALL, "data.lines_per_step=2", "data.batch_size=32")


TERMS = {
    "correlation": {"weight": 3.0, "ramp": 0.5, "cap": 9.0},
    "invariance": {"weight": 0.3, "ramp": 0.1, "cap": 0.45},
    "contrastive": {"weight": 0.2, "ramp": 0.05, "cap": 1.0, "temperature": 0.3},
    "sparsity": {"weight": 1.0, "ramp": 0.25, "cap": 9.0},
    "prototype": {"weight": 2.0, "ramp": 0.5, "cap": 9.0, "momentum": 0.6},
    "mutual_information": {"weight": 0.4, "ramp": 0.1, "cap": 9.0},
}
ACTIVE = 2  # epochs since the environment became active
WEIGHTS = {"correlation": 4.0, "invariance": 0.45, "contrastive": 0.3, "sparsity": 1.5, "prototype": 3.0,
           "mutual_information": 0.6}  # fmt: skip


def in_two_steps(data, loss=None, terms=None, **energy):
    """A model after a first step, which fills queues and prototypes, the batches of both, and what each step saw."""
    chosen = {name: {"weight": 0.0} for name in TERMS} if terms is None else terms
    energy = {"temperature": {"mode": "learned", "l2": 0.8}, **energy}
    model = prism(data, loss, invariant_width=6, environment_width=5, terms=chosen, energy=energy, queue=512)
    if model.options.energy.temperature.mode == "learned":
        model.network.energy.t.data.fill_(0.4)
    model.begin_epoch(StageEpoch("joint", 5, {"environment": ACTIVE}))
    model._log = lambda *_, **__: None
    views = []
    model.network.register_forward_hook(lambda *seen: views.append(seen[-1]))
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(2), strict=False)]
    model.training_step(batches[0], 0)
    return model, batches, views


def label_shares(data) -> np.ndarray:
    """Shares of the negative and the positive class among the training labels."""
    label = data.design.pairs.label
    positive = label[data.design.index("train")].mean()
    assert abs(positive - label.mean()) > 1e-3  # which all labels would not give
    return np.array([1 - positive, positive])


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def immax_scales(shares, views, batches) -> np.ndarray:
    """ρ of both classes after two batches at a momentum of 0.8."""
    sizes = []
    for view, batch in zip(views, batches, strict=True):
        norm, label = np.linalg.norm(array(view.invariant), axis=1), array(batch["label"])
        sizes.append(np.array([norm[label == k].mean() for k in (0, 1)]))
    size = 0.8 * sizes[0] + 0.2 * sizes[1]
    weight = shares ** (1 / 3) * size ** (2 / 3)
    return 2 * weight / weight.sum()


def task_loss(name, data, views, batches) -> float:
    """The task loss of the last of the batches."""
    label, logit = array(batches[-1]["label"]), array(views[-1].reading.logit)
    margin, place = np.where(label > 0, logit, -logit), label.astype(int)
    wrong = 1 / (1 + np.exp(margin))
    return float({
        "bce": lambda: softplus(-margin) * (0.5 / label_shares(data))[place],
        "focal": lambda: np.where(label > 0, 0.7, 0.3) * wrong**1.5 * -np.log(1 - wrong),
        "immax": lambda: softplus(-margin / immax_scales(label_shares(data), views, batches)[place]),
        "mse": lambda: (1 / (1 + np.exp(-logit)) - label) ** 2,
    }[name]().mean())  # fmt: skip


OF_PAIRS = {"bce": lambda: BinaryCrossEntropy("classes"), "focal": lambda: Focal(1.5, 0.7),
            "immax": lambda: Immax("prior", momentum=0.8), "mse": SquaredError}  # fmt: skip


@pytest.mark.parametrize("name", OF_PAIRS)
def test_prism_adds_the_penalty_of_its_temperature_to_the_task_loss(name, pairs):
    model, batches, views = in_two_steps(pairs, OF_PAIRS[name]())
    total = model.training_step(batches[1], 1)
    assert views[1].reading.temperature[0].item() == pytest.approx(softplus(0.4 + np.log(np.e - 1)), rel=1e-6)
    adds_up(total, {"task": task_loss(name, pairs, views, batches), "l2": 0.8 * 0.4**2})


def test_prism_penalises_the_t_that_each_pair_is_read_with(pairs):
    """T = softplus(t + ln(e − 1)) of the line of a pair, so t by its inverse."""
    model, batches, views = in_two_steps(pairs, SquaredError(), temperature={"mode": "per_line", "l2": 0.8})
    torch.nn.init.normal_(model.network.energy.read_t.weight)
    total = model.training_step(batches[1], 1)
    t = np.log(np.expm1(array(views[1].reading.temperature))) - np.log(np.e - 1)
    assert len(np.unique(t.round(4))) == 2  # lines in a step
    adds_up(total, {"task": task_loss("mse", pairs, views, batches), "l2": 0.8 * (t**2).mean()})


def classes(model, batch) -> np.ndarray:
    return model.class_of_line.numpy()[batch["line"].numpy()]


def correlation(now) -> float:
    """Mean squared entry of the cross-correlations; a feature that does not vary has none."""
    varying = now["z"][:, now["z"].std(axis=0) > 0]
    width = varying.shape[1]
    matrix = np.corrcoef(varying.T, now["e"].T)[:width, width:]
    return float((matrix**2).sum() / (now["z"].shape[1] * now["e"].shape[1]))


def cross_entropy(model, z, line) -> float:
    """Of the line classifier on z, standardised over its rows."""
    first, _, last = model.terms["invariance"].classifier
    x = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
    hidden = np.maximum(x @ array(first.weight).T + array(first.bias), 0)
    logits = hidden @ array(last.weight).T + array(last.bias)
    return float(-special.log_softmax(logits, axis=1)[np.arange(len(line)), line].mean())


def invariance(model, now, before) -> float:
    held = cross_entropy(model, before["z"], before["line"])
    return (cross_entropy(model, now["z"], now["line"]) + held) / 2


def contrastive(now, before, temperature) -> float:
    unit = [own["e"] / np.linalg.norm(own["e"], axis=1, keepdims=True) for own in (now, before)]
    keys, lines = np.concatenate(unit), np.concatenate([now["line"], before["line"]])
    values = []
    for i, own in enumerate(now["line"]):
        near = np.exp(keys @ keys[i] / temperature)
        near[i] = 0
        values.append(-np.log(near[lines == own].sum() / near.sum()))
    return float(np.mean(values))


def prototype(now, before) -> float:
    means = dict(zip(before["support_line"], before["support"], strict=True))
    return float(np.mean([(e - means[line]) ** 2 for e, line in zip(now["e"], now["line"], strict=True)]))


def mutual_information(model, now) -> float:
    """The bound over all pairs (i, j), and the negative log likelihood of q, a mean over pairs and features."""
    first, _, last = model.terms["mutual_information"].bound.network
    hidden = np.maximum(now["z"] @ array(first.weight).T + array(first.bias), 0)
    mean, raw = np.split(hidden @ array(last.weight).T + array(last.bias), 2, axis=1)
    sd = np.exp(8 * np.tanh(raw / 8) / 2)
    log_q = stats.norm.logpdf(now["e"][:, None], mean[None], sd[None])  # [j, i, d]: e of j, q of i
    own = log_q[np.arange(len(mean)), np.arange(len(mean))]
    return float((own.sum(axis=1) - log_q.sum(axis=2).mean(axis=0)).mean() - own.mean())


def seen_by(model, view, batch) -> dict[str, np.ndarray]:
    return {
        "z": array(view.invariant),
        "e": array(view.own),
        "line": classes(model, batch),
        "support": array(view.line),
        "support_line": model.class_of_line.numpy()[batch["support_line"].numpy()],
    }


def terms_by_hand(model, views, batches) -> dict[str, float]:
    before, now = (seen_by(model, view, batch) for view, batch in zip(views, batches, strict=True))
    return {
        "correlation": correlation(now),
        "invariance": invariance(model, now, before),
        "contrastive": contrastive(now, before, 0.3),
        "sparsity": np.abs(now["z"]).mean() + np.abs(now["support"]).mean(),
        "prototype": prototype(now, before),
        "mutual_information": mutual_information(model, now),
    }


def test_prism_adds_every_term_with_its_weight_and_ramp(pairs):
    model, batches, views = in_two_steps(pairs, BinaryCrossEntropy("classes"), TERMS)
    total = model.training_step(batches[1], 1)
    values = terms_by_hand(model, views, batches)
    weighted = {name: WEIGHTS[name] * value for name, value in values.items()}
    adds_up(total, {"task": task_loss("bce", pairs, views, batches), "l2": 0.8 * 0.4**2, **weighted})


def test_prism_has_the_task_loss_alone_before_the_environment_is_active(pairs):
    model, batches, views = in_two_steps(pairs, BinaryCrossEntropy("classes"), TERMS)
    model.begin_epoch(StageEpoch("warm_up", 0, {}))
    total = model.training_step(batches[1], 1)
    adds_up(total, {"task": task_loss("bce", pairs, views, batches), "l2": 0.8 * 0.4**2})


def test_prism_reverses_the_gradient_of_the_line_classifier_in_full(pairs):
    """z_I climbs the cross-entropy that the classifier descends, with the same weight."""
    only = {name: {"weight": 0.0} for name in TERMS} | {"invariance": {"weight": 0.7, "cap": 0.7}}
    model, batches, views = in_two_steps(pairs, BinaryCrossEntropy(), only)
    total, view = model.training_step(batches[1], 1), views[-1]
    term, line = model.terms["invariance"], torch.from_numpy(classes(model, batches[1]))
    task = functional.binary_cross_entropy_with_logits(view.reading.logit, batches[1]["label"])
    standard = functional.batch_norm(view.invariant, None, None, training=True, eps=1e-5)
    told = functional.cross_entropy(term.classifier(standard), line) / 2  # half is that of earlier pairs
    gradients = [torch.autograd.grad(each, view.invariant, retain_graph=True)[0] for each in (total, task, told)]
    torch.testing.assert_close(gradients[0], gradients[1] - 0.7 * gradients[2], rtol=1e-4, atol=1e-7)
    assert gradients[2].norm() > 1e-2 * gradients[1].norm()
    own = term.classifier[0].weight
    held = functional.batch_norm(views[0].invariant.detach(), None, None, training=True, eps=1e-5)
    held_told = functional.cross_entropy(term.classifier(held), torch.from_numpy(classes(model, batches[0]))) / 2
    found, expected = (torch.autograd.grad(each, own)[0] for each in (total, 0.7 * (told + held_told)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_prism_ramps_a_term_up_to_its_cap(pairs):
    """One term, three epochs: the total rises by the ramp times the term, and no further than the cap."""
    totals = []
    for epoch in (0, 1, 2, 7, 8):
        only = {name: {"weight": 0.0} for name in TERMS} | {"sparsity": {"weight": 0.5, "ramp": 0.25, "cap": 1.5}}
        model, batches, views = in_two_steps(pairs, BinaryCrossEntropy(), only)
        model.begin_epoch(StageEpoch("joint", 5, {"environment": epoch}))
        totals.append(model.training_step(batches[1], 1).item())
        term = np.abs(array(views[1].invariant)).mean() + np.abs(array(views[1].line)).mean()
    rises = [later - earlier for earlier, later in pairwise(totals)]
    assert rises == pytest.approx([0.25 * term, 0.25 * term, 0.5 * term, 0.0], abs=1e-6)


# What is logged


def logged(model, method, batch) -> tuple[dict[str, float], dict[str, dict]]:
    """Values and options of what a step logs, by name."""
    values, options = {}, {}

    def log(name, value, **chosen):
        values[name] = value
        options[name] = chosen

    model.log = log
    getattr(model, method)(batch, 0)
    return values, options


OF_STEP = {"on_step": True, "on_epoch": False}
OF_EPOCH = {"on_step": False, "on_epoch": True}
SHOWN_EPOCH = {**OF_EPOCH, "prog_bar": True, "sync_dist": True}


def test_nbglm_logs_its_data_loss_and_weighs_validation_by_cells():
    data = simulated(PseudobulkBatches())
    model, rows = fitted_nbglm(data, counts.nb, regularization={"l2": 0.02}), rows_of(data)
    loss, n_cells = data_loss(model, rows, FORMULAS["nb"]), int(rows["cells"].sum())
    assert n_cells > len(rows["cells"])
    values, options = logged(model, "training_step", rows)
    assert values["train/loss"].item() == pytest.approx(loss, rel=2e-5)
    assert options == {"train/loss": {**OF_STEP, "prog_bar": True}}
    values, options = logged(model, "validation_step", rows)
    assert values["val/loss"].item() == pytest.approx(loss, rel=2e-5)
    assert options == {"val/loss": {**SHOWN_EPOCH, "batch_size": n_cells}, "val/mae": OF_EPOCH}
    mu = array(model.network(rows["perturbation"], rows["context"], rows["phase"], rows["log_size"]).exp())
    error = np.abs(mu - array(rows["counts"])) / array(rows["cells"])[:, None]
    assert values["val/mae"].compute().item() == pytest.approx(error.mean(), rel=1e-5)


def test_gears_logs_its_loss_and_weighs_validation_by_cells(cells):
    data, batch = cells
    model = gears(data).eval()
    loss, n_cells = step(model, batch).item(), len(batch["control"])
    values, options = logged(model, "training_step", batch)
    assert values["train/loss"].item() == loss
    assert options == {"train/loss": {**OF_STEP, "prog_bar": True, "batch_size": n_cells}}
    values, options = logged(model, "validation_step", batch)
    assert values["val/loss"].item() == loss
    assert options == {"val/loss": {**SHOWN_EPOCH, "batch_size": n_cells}, "val/mae": OF_EPOCH}
    y, predicted, _, _ = perturbed(model, batch)
    assert values["val/mae"].compute().item() == pytest.approx(np.abs(predicted - y).mean(), rel=1e-5)


def test_prism_logs_its_terms_and_what_its_energy_reads(pairs):
    model = prism(pairs, BinaryCrossEntropy(), terms=TERMS)
    model.begin_epoch(StageEpoch("joint", 5, {"environment": ACTIVE}))
    batch = next(iter(pairs.train_dataloader()))
    values, options = logged(model, "training_step", batch)
    of_lines = {f"resistance/line{number}" for number in batch["line"].unique().tolist()}
    assert options.keys() == {
        "train/loss", "train/task", "energy/lambda", "energy/temperature", "adversary/accuracy", *of_lines,
        *(f"train/{name}" for name in TERMS), *(f"weight/{name}" for name in TERMS),
        *(f"sparsity/{name}" for name in ("invariant", "environment")),
    }  # fmt: skip
    shown = {name: chosen.pop("prog_bar") for name, chosen in options.items()}
    assert [name for name, bar in shown.items() if bar] == ["train/loss"]
    assert all(chosen == {**OF_STEP, "batch_size": 1} for chosen in options.values())
    assert {name: values[f"weight/{name}"] for name in TERMS} == pytest.approx(WEIGHTS)
    weighted = sum(WEIGHTS[name] * values[f"train/{name}"].item() for name in TERMS)
    assert values["train/loss"].item() == pytest.approx(values["train/task"].item() + weighted, rel=1e-5)
    assert values["energy/lambda"].item() == pytest.approx(0.1)
    values, options = logged(model.eval(), "validation_step", batch)
    assert options == {"val/loss": {**SHOWN_EPOCH, "batch_size": len(batch["label"])}}


def test_epochs_of_prism_log_the_metrics_of_their_pairs(pairs):
    model, found = prism(pairs, BinaryCrossEntropy()), {}
    model.log = lambda name, value, **chosen: found.__setitem__(name, (value, chosen))
    batches = [batch for batch, _ in zip(pairs.train_dataloader(), range(3), strict=False)]
    for batch in batches:
        model.training_step(batch, 0)
        model.validation_step(batch, 0)
    for role, ends in (("train", model.on_train_epoch_end), ("val", model.on_validation_epoch_end)):
        found.clear()
        ends()
        assert found.keys() == {f"{role}/{name}" for name in ("auprc", "auroc", "f1")}
        for name, (value, chosen) in found.items():
            assert 0 < value <= 1
            assert chosen == {**OF_EPOCH, "prog_bar": name.endswith("auprc"), "sync_dist": True}
        found.clear()
        ends()  # an epoch without a batch has no value
        assert found == {}
