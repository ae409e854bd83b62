"""GEARS from data to prediction: what it learns from, predicts and refuses, and what a checkpoint holds."""

from dataclasses import replace

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from command import TINY, command
from resuming import assert_same_end, interrupted, run
from small_gears import SIMULATOR, gears, screen_data

from pertexp.config.errors import DataError, MismatchError, RequestError
from pertexp.data.screens.batch_layouts import CellBatches, PseudobulkBatches
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.evaluation.screens.families import Core
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.evaluation.screens.measuring import measure
from pertexp.evaluation.screens.scoring import Scores
from pertexp.losses.counts import nb
from pertexp.losses.gears import GearsLoss
from pertexp.losses.squared_error import SquaredError
from pertexp.metrics.interactions import interaction_scores
from pertexp.models.gears import GEARS
from pertexp.models.gears.graphs import as_sets, coexpression_graph
from pertexp.models.gears.options import Neighbours

TINY_GEARS = ("model=gears", *TINY, "data.batch_size=16", "model.hidden_size=8")


@pytest.fixture(scope="module")
def data():
    made = screen_data()
    made.setup("fit")
    return made


def trained(model: GEARS, data, steps: int = 40) -> list[float]:
    optimizer, losses = model.configure_optimizers(), []
    model.train()
    loader = data.train_dataloader()
    while len(losses) < steps:
        for batch in loader:
            optimizer.zero_grad()
            loss = model._loss(batch)
            loss.backward()
            optimizer.step()
            model.network.project_()
            losses.append(loss.item())
    return losses


@pytest.fixture(scope="module")
def model(data):
    made = gears(data)
    losses = trained(made, data, 120)
    assert np.mean(losses[-30:]) < 0.9 * np.mean(losses[:10])  # random pairs of cells set a floor
    return made.eval()


def test_an_effect_is_the_same_for_every_cell_and_context(model, data):
    units = data.design.units("test")
    delta = model.predict(units) - data.design.training.control[units.context]
    for name in np.unique(units.perturbation):
        same = delta[units.perturbation == name]
        assert len(same) == 2  # two contexts
        np.testing.assert_allclose(same[0], same[1], atol=1e-6)
    assert np.abs(delta).max() > 0.05


def test_sets_by_name_are_units_by_number(model, data):
    design, units = data.design, data.design.units("test")
    names = [design.screen.perturbations[p].split("+") for p in units.perturbation]
    found = model.predict_sets(names, "context1")
    assert found.var_names.tolist() == design.screen.genes.tolist()
    inside = units.context == 0
    np.testing.assert_allclose(found.X[inside], model.predict(units)[inside], atol=1e-6)
    assert found.obs["perturbation"].tolist()[0] == "+".join(names[0])


def test_validation_error_is_that_of_predicted_cells(model, data, monkeypatch):
    logged = {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: value}))
    errors = []
    with torch.no_grad():
        for batch in data.val_dataloader():
            model.validation_step(batch, 0)
            names = [data.design.screen.perturbations[p].split("+") for p in batch["perturbation"]]
            profile = torch.from_numpy(model.predict_sets(names, "context1").X)
            delta = profile - model.control[0]
            errors.append((batch["control"] + delta - batch["counts"]).abs())
    assert float(logged["val/mae"].compute()) == pytest.approx(float(torch.cat(errors).mean()), rel=1e-5)
    assert not [name for name in model.state_dict() if "mae" in name]


def test_sets_of_any_size_in_any_order(model):
    a, b, c = model.nodes[0], model.nodes[5], "TARGET00001"  # the last is not measured
    found = model.predict_sets([[a, b, c], [c, a, b], [a, b], []], context="context2").X
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - found[2]).max() > 1e-4


def test_a_gene_outside_the_graph_is_refused_with_those_like_it(model):
    with pytest.raises(RequestError, match=r"TARGET0000X.*TARGET0000"):
        model.predict_sets([["TARGET0000X"]], "context1")
    with pytest.raises(RequestError, match=r"context=None.*context1"):
        model.predict_sets([[]])


def test_profiles_can_be_clipped_at_zero(data):
    model = gears(data, clip=True)
    with torch.no_grad():
        model.network.indv_b2.fill_(-3.0)
    units = data.design.units("test")
    assert model.predict(units).min() == 0
    model.options = replace(model.options, clip=False)
    assert model.predict(units).min() < -0.5


def test_units_by_name_of_sets_that_the_screen_does_not_hold(model, data):
    names = ["+".join(sorted([model.nodes[1], "TARGET00003"])), data.design.screen.perturbations[2]]
    units = model.units_named(names, "context2")
    expected = model.predict_sets([name.split("+") for name in names], "context2").X
    np.testing.assert_allclose(model.predict(units), expected, atol=1e-6)
    with pytest.raises(RequestError, match="NOWHERE"):
        model.units_named(["NOWHERE"], "context2")


def test_other_weights_are_refused():
    with pytest.raises(DataError, match="no weights of GEARS"):
        GEARS.from_checkpoint({"network.K": torch.zeros(2)})


def test_signs_are_read_off_names(data):
    model = gears(data, signs={"knock_out": "_KO", "activation": "_OE"})
    gene = model.nodes[3]
    found = model.predict_sets([[gene], [f"{gene}_OE"], [f"{gene}_KO"], [gene, f"{gene}_KO"]], "context1").X
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert np.abs(found[0] - found[2]).max() > 1e-4


def test_the_interaction_of_a_pair(model):
    found = model.interaction(model.nodes[0], model.nodes[7], genes=model.genes[:30])
    assert set(found) >= {"c1", "c2", "mag", "dominance", "corr_fit"}
    assert -1 <= found["corr_fit"] <= 1
    sets = [[model.nodes[0]], [model.nodes[7]], [model.nodes[0], model.nodes[7]]]
    effects = model.predict_sets(sets, "context1").X - model.control[0].numpy()
    expected = interaction_scores(*effects[:, :30])
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True)
    with pytest.raises(RequestError, match="does not interact with itself"):
        model.interaction(model.nodes[0], model.nodes[0])
    with pytest.raises(RequestError, match="GENE99999"):
        model.interaction(model.nodes[0], model.nodes[7], genes=["GENE99999"])


@pytest.mark.parametrize(("uncertainty", "scope"), [("none", "all"), ("gaussian", "first_cell"), ("ranking", "none")])
def test_a_checkpoint_alone_predicts_the_same(uncertainty, scope, data, tmp_path):
    model = gears(data, GearsLoss(uncertainty=uncertainty), coexpress_scope=scope)
    trained(model, data, 3)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "gears.ckpt")
    loaded = GEARS.from_checkpoint(torch.load(tmp_path / "gears.ckpt", weights_only=True)["state_dict"])
    sets = [["TARGET00001"], [model.nodes[2], model.nodes[4]]]
    ours, theirs = loaded.predict_sets(sets, "context2"), model.predict_sets(sets, "context2")
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert ("sd" in ours.layers) == (uncertainty != "none")
    if uncertainty != "none":
        np.testing.assert_array_equal(ours.layers["sd"], theirs.layers["sd"])
        confidence = np.exp(-2 * np.log(ours.layers["sd"]).mean(axis=1))
        np.testing.assert_allclose(ours.obs["confidence"], confidence, rtol=1e-6)


@pytest.mark.parametrize("uncertainty", ["none", "gaussian"])
def test_as_released_a_prediction_is_the_mean_over_300_cells_whose_first_alone_is_mixed(uncertainty, data):
    model = gears(data, GearsLoss(uncertainty=uncertainty), coexpress_scope="first_cell").eval()
    asked = as_sets([["TARGET00001"], [model.nodes[2], model.nodes[4]]], model.nodes, model.options.signs)
    with torch.no_grad():
        model.network.emb_pos.weight.mul_(100)  # so that mixing them matters
        parts = [model.network(asked, torch.ones(2), torch.full((2,), variant)) for variant in (0, 1)]
    found = model._effects(asked, np.array([1, 0, 1]), np.zeros(3, dtype=np.int64))
    for own, mixed, alone in zip(found, *parts, strict=True):
        if own is None:
            assert (mixed, alone, uncertainty) == (None, None, "none")
            continue
        expected = (mixed.numpy() + 299 * alone.numpy()) / 300
        np.testing.assert_allclose(own, expected[[1, 0, 1]], rtol=1e-5, atol=1e-7)
        assert np.abs(mixed.numpy() - alone.numpy()).max() > 1e-3
    assert not model.training


def test_the_only_context_need_not_be_named():
    model = gears(screen_data(simulator=replace(SIMULATOR, n_contexts=1)))
    found = model.predict_sets([[], [model.nodes[0]]])
    assert found.obs["context"].tolist() == ["context1"] * 2
    assert found.obs["perturbation"].tolist() == ["control", model.nodes[0]]
    with pytest.raises(RequestError, match="context=other"):
        model.predict_sets([[]], "other")


def test_squared_error_trains_and_its_checkpoint_predicts_the_same(data):
    model = gears(data, SquaredError())
    assert (model.counted, model.network.uncertainty_w) == (None, None)
    losses = trained(model, data, 120)
    assert np.mean(losses[-30:]) < 0.95 * np.mean(losses[:10])  # random pairs of cells set a floor
    loaded, sets = GEARS.from_checkpoint(model.state_dict()), [["TARGET00001"], [model.nodes[2], model.nodes[4]]]
    ours, theirs = loaded.predict_sets(sets, "context2"), model.predict_sets(sets, "context2")
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert not ours.layers


def test_a_cell_without_a_graph_hears_itself_alone(data):
    """`none` and a graph of self-loops are the same; a graph of more is not."""
    model, alone = gears(data), gears(data, coexpress_scope="none")
    assert model.network.coexpression.weight.numel() > 2 * len(model.genes)
    alike = gears(data, coexpress={"threshold": 0.0, "k": 0})
    alike.network.load_state_dict(alone.network.state_dict(), strict=False)
    units = data.design.units("test")
    np.testing.assert_allclose(alike.predict(units), alone.predict(units), atol=1e-6)
    assert np.abs(model.predict(units) - alone.predict(units)).max() > 1e-5


def marked(screen, cells):
    dense = screen.expression.toarray()
    dense[np.ix_(cells, np.arange(0, screen.n_genes, 2))] = 50 * (
        1 + dense[np.ix_(cells, np.arange(0, screen.n_genes, 2))]
    )
    return replace(screen, expression=sp.csr_matrix(dense))


class MarkedData(SimulatedScreenData):
    """Simulated, with a mark on the cells of one role."""

    marked_cells: np.ndarray

    def read(self):
        return marked(super().read(), self.marked_cells)


def learnt(data) -> dict[str, np.ndarray]:
    """What from_data learns, then weights after some steps; rows of training perturbations alone of the mask."""
    model = gears(data)
    trained(model, data, 3)
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    known = np.unique(data.design.screen.perturbation[data.design.cells("train", "control")])
    return state | {"counted": model.counted.numpy()[known]}


@pytest.mark.parametrize(
    ("role", "leaks"),
    [("test", False), ("val", False), ("held_out_control", False), ("train", True), ("control", True)],
)
def test_held_out_cells_change_nothing_that_is_learnt(role, leaks, data):
    other = screen_data()
    other.__class__ = MarkedData
    other.marked_cells = np.flatnonzero(data.design.role == role)
    assert other.marked_cells.size >= 40
    before, after = learnt(data), learnt(other)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert bool(changed) == leaks
    if leaks:
        assert {"network.coexpression.weight", "network.indv_w1"} <= changed or role == "train"


def test_the_coexpression_graph_is_of_controls_and_training_singles(data):
    design = data.design
    names = np.array(design.screen.perturbations)
    single = np.array(["+" not in name for name in names])[design.screen.perturbation]
    cells = np.isin(design.role, ["train", "control"]) & single
    correlation = np.abs(np.corrcoef(design.screen.expression[cells].toarray().T))
    np.fill_diagonal(correlation, 1.0)
    graph = coexpression_graph(design, Neighbours(k=4, threshold=0.05))
    for gene in range(design.screen.n_genes):
        best = [m for m in np.argsort(-correlation[gene])[:5] if correlation[gene, m] > 0.05]
        assert sorted(graph.source[graph.target == gene].tolist()) == sorted(best)


@pytest.mark.parametrize(
    ("options", "loss", "said"),
    [
        ({"normalize": False}, GearsLoss(), "data.normalize=where_counts"),
        ({"batches": CellBatches()}, GearsLoss(), "data/batches=matched_controls"),
        ({"batches": PseudobulkBatches(combine="mean")}, GearsLoss(), "data/batches=matched_controls"),
        ({"annotation": None}, GearsLoss(), "data/annotation=go"),
        ({}, nb, "loss=nb needs cells, counts, log_mu, theta"),
    ],
)
def test_data_and_losses_that_do_not_fit_are_refused(options, loss, said):
    with pytest.raises(MismatchError, match=said.replace(".", r"\.")):
        gears(screen_data(**options), loss)


def test_genes_without_a_term_are_named_or_stand_alone(data, tmp_path, caplog):
    from pertexp.data.screens.annotations import GeneSets

    targets = data.design.screen.truth.target_names
    (tmp_path / "sets.gmt").write_text("\n".join("\t".join(["term", "", *targets[:-1]]) for _ in range(2)))
    other = screen_data(annotation=GeneSets(str(tmp_path / "sets.gmt")))
    with pytest.raises(DataError, match=rf"1 perturbed genes.*{targets[-1]}.*model\.ontology\.outside=identity"):
        gears(other, ontology={"outside": "refuse"})
    model = gears(other)
    assert targets[-1] in caplog.text
    assert targets[-1] in model.nodes
    node = model.nodes.index(targets[-1])
    graph = model.network.ontology
    assert graph.source[graph.target == node].tolist() == [node]


def test_every_annotated_gene_can_be_a_node(data, tmp_path):
    from pertexp.data.screens.annotations import GeneSets

    (tmp_path / "sets.gmt").write_text(f"term\t\tELSEWHERE\t{data.design.screen.truth.target_names[0]}")
    other = screen_data(annotation=GeneSets(str(tmp_path / "sets.gmt")))
    assert "ELSEWHERE" not in gears(other).nodes
    model = gears(other, ontology={"nodes": "annotated"})
    assert model.predict_sets([["ELSEWHERE"]], "context1").shape == (1, 40)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hidden_size": 0}, r"model\.hidden_size=0"),
        ({"encoder_lr_factor": 0.0}, r"model\.encoder_lr_factor=0"),
        *(
            ({graph: {name: -1}}, rf"model\.{graph}\.{name}=-1(\.0)?: expected at least 0")
            for graph in ("coexpress", "ontology")
            for name in ("k", "layers", "threshold")
        ),
        ({"signs": {"_KO": 2}}, r"model\.signs\._KO"),
        ({"reference_mode": True, "coexpress_scope": "none"}, r"model\.reference_mode=true"),
        ({"rank": 3}, r"model\.rank is not an option"),
    ],
)
def test_options_that_are_none_are_refused(options, said, data):
    with pytest.raises(RequestError, match=said):
        gears(data, **options)


@pytest.mark.medium
def test_the_command_trains_and_scores_beside_the_baselines(outputs):
    import json

    words = ("data.simulator.n_combinations=12", "data/split=gears_simulation")
    done = command(*TINY_GEARS, *words)
    assert done.code == 0, done.err
    for name in ("gears", "no_change", "train_mean", "additive", "bilinear_ridge", "kernel_ridge", "knn"):
        assert name in done.out
    scores = json.loads((done.folder / "metrics.json").read_text())
    groups = {(row["members"], row["seen"]) for row in scores["by_seen"] if row["model"] == "gears"}
    assert (1, 0) in groups  # unseen singles, apart from combinations with one or two members seen
    assert any(members == 2 for members, _ in groups)
    checkpoint = torch.load(done.folder / "checkpoints" / "best.ckpt", weights_only=True)
    model = GEARS.from_checkpoint(checkpoint["state_dict"])
    assert model.predict_sets([["TARGET00001"]]).var_names.tolist() == checkpoint["schema"]["genes"]


@pytest.mark.medium
def test_a_killed_run_ends_with_equal_bits(outputs):
    words = (*TINY_GEARS, "callbacks.last.every_n_train_steps=5", "+callbacks.diary._target_=killing.Diary")
    whole, diary = run(*words)
    assert whole.code == 0, whole.err
    killed = interrupted(outputs, "batch_start", 24, *words)
    done, resumed = run(*words, f"ckpt_path={killed}/checkpoints/last.ckpt")
    assert done.code == 0, done.err
    assert resumed == diary[-len(resumed) :]
    assert 0 < len(resumed) < len(diary)
    assert_same_end(done.folder, whole.folder)


@pytest.mark.medium
@pytest.mark.parametrize(
    "words", [("trainer.precision=bf16-mixed",), ("trainer.precision=64-true", "loss.uncertainty=gaussian")]
)
def test_other_precisions_train_too(words, outputs):
    done = command(*TINY_GEARS, *words)
    assert (done.code, "Traceback" in done.err) == (0, False), done.err


@pytest.mark.medium
def test_signs_are_typed_as_they_are_read(outputs):
    done = command(*TINY_GEARS, "model.signs.knock_out=_KO", "trainer.max_epochs=1")
    assert done.code == 0, done.err
    assert command(*TINY_GEARS, "data.annotation=null").code == 2


def test_what_does_not_fit_is_one_message(outputs):
    refused = command("model=gears", *TINY, "loss=nb")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "loss=gears" in refused.err
    assert command("model=nbglm", *TINY, "loss=gears").code == 2


PLANTED = (
    "experiment=gears_planted_interactions", "data.simulator.n_genes=40", "data.simulator.n_perturbations=40",
    "data.simulator.n_combinations=250", "data.simulator.n_controls=600", "model.hidden_size=32", "optimizer.lr=5e-3",
    "trainer.max_epochs=6", "~callbacks.progress", "+trainer.enable_progress_bar=false", "print_config=false",
    "evaluation.n_resamples=1000",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("interaction", [1.0, 0.0])
def test_planted_interactions_are_learnt_and_none_where_none_are(interaction, outputs):
    """Held-out pairs with both members known: additive is beaten where pairs switch on a program, and only there."""
    done = command(*PLANTED, f"data.simulator.interaction={interaction}")
    assert done.code == 0, done.err
    frame = EvaluationFrame.from_anndata(anndata.read_h5ad(done.folder / "predictions.h5ad"))
    scores = Scores.of(measure(frame, None, {"core": Core()}), None, 1000)
    seen = scores.rows("gears", "mse")["seen"]
    assert (seen == 2).all()
    assert len(seen) == 50
    error = scores.difference("gears", "additive", "mse")
    shape = scores.difference("gears", "additive", "pearson_delta_mean")
    if interaction:
        assert error.high < 0
        assert shape.low > 0
    else:
        assert error.high > 0
        assert shape.low < 0
