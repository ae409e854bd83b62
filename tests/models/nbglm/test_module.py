"""The NB-GLM: its formula, its start, its options, and what each part of it does to a fit."""

import functools
import math

import lightning
import numpy as np
import pytest
import torch
from scipy import stats
from small_nbglm import ADAMW, simulated

from pertexp.config.errors import DataError, MismatchError, RequestError
from pertexp.config.validate import typed
from pertexp.data.screens.batch_layouts import CellBatches, PseudobulkBatches
from pertexp.data.screens.datamodule import H5adScreenData
from pertexp.data.screens.embeddings import TableFile, TrainingPca
from pertexp.data.screens.profiles import Units
from pertexp.data.screens.splits import UnseenPerturbation
from pertexp.evaluation.screens.evaluation import evaluation_frame
from pertexp.evaluation.screens.families import Core
from pertexp.evaluation.screens.measuring import measure
from pertexp.evaluation.screens.scoring import Scores
from pertexp.losses import counts as losses
from pertexp.losses.squared_error import SquaredError
from pertexp.models.baselines.screens import BilinearRidge
from pertexp.models.learned_scalar import LearnedScalar
from pertexp.models.nbglm import NBGLM
from pertexp.models.nbglm.initial import closed_form, facts_of, start_from
from pertexp.models.nbglm.module import Initialisation, NBGLMOptions, Regularization, Sampling, build_network
from pertexp.models.nbglm.network import Facts, NBGLMNetwork
from pertexp.models.samples import write_samples
from pertexp.nn.negative_binomial import nb_log_prob


def fitted(data, epochs=10, loss=losses.nb, optimizer=ADAMW, **options):
    """A model after some epochs of the real trainer."""
    torch.manual_seed(0)
    return train(NBGLM.from_data(data, loss, optimizer, **options), data, epochs)


def train(model, data, epochs):
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    return model


def training_loss(model, data):
    """Mean loss of a model over all training rows."""
    rows, role = data.batches.rows(data.design)
    with torch.no_grad():
        return float(model._data_loss(rows.take(np.flatnonzero(np.isin(role, ("train", "control"))))))


@pytest.fixture(scope="module")
def data():
    built = simulated()
    assert built.design.screen.n_genes == 40
    return built


# The formula


def facts(genes=4, contexts=2, seed=0):
    rng = np.random.default_rng(seed)
    unseen = np.zeros((contexts, genes), dtype=bool)
    unseen[1, 2] = True
    return Facts(
        gene_embedding=torch.from_numpy(rng.normal(size=(genes, 3))),
        perturbation_embedding=torch.from_numpy(np.vstack([np.zeros(2), rng.normal(size=(4, 2))])),
        log_control_mean=torch.from_numpy(rng.normal(size=(contexts, genes))),
        unseen=torch.from_numpy(unseen),
        theta=torch.from_numpy(rng.uniform(0.5, 4, genes)),
        phase_share=torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64),
    )


def random_network(rank=None, bound="tanh", cell_cycle=True, seed=0):
    torch.manual_seed(seed)
    alpha = LearnedScalar("fixed", 1.7)
    known = facts()
    network = NBGLMNetwork(known, rank=rank, bound=bound, alpha=alpha, cell_cycle=cell_cycle, learn_theta=False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return known, network


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("bound", ["tanh", "none"])
def test_forward_is_the_formula_of_the_source_cell_by_cell(rank, bound):
    known, network = random_network(rank, bound)
    rng = np.random.default_rng(1)
    p, c, phase = rng.integers(0, 5, 30), rng.integers(0, 2, 30), rng.integers(0, 3, 30)
    log_size = rng.normal(size=30)
    with torch.no_grad():
        found = network(*map(torch.from_numpy, (p, c, phase, log_size))).numpy()
        K, b, beta = network.kernel.numpy(), network.bias.numpy(), network.beta.numpy()
        mean = network.mean(torch.from_numpy(p), torch.from_numpy(c)).numpy()
    G, P = known.gene_embedding.numpy(), known.perturbation_embedding.numpy()
    for i, g in np.ndindex(30, 4):
        raw = sum(G[g, j] * K[j, k] * P[p[i], k] for j in range(3) for k in range(2)) + b[g]
        straight = bound == "none" or known.unseen[c[i], g]
        delta = 0.0 if p[i] == 0 else 1.7 * (raw if straight else math.tanh(raw))
        cycle = [0.0, beta[g, 0], beta[g, 1]]
        reference = float(known.log_control_mean[c[i], g]) + delta
        assert found[i, g] == pytest.approx(reference + cycle[phase[i]] + log_size[i], rel=1e-12, abs=1e-12)
        mixed = sum(float(known.phase_share[c[i], f]) * math.exp(cycle[f]) for f in range(3))
        assert mean[i, g] == pytest.approx(math.exp(reference) * mixed, rel=1e-12)


def test_the_shapes_are_those_of_the_document():
    _, network = random_network()
    _, low = random_network(rank=1)
    index = torch.tensor([0, 1, 2])
    assert network.gene_embedding.shape == (4, 3)
    assert network.perturbation_embedding.shape == (5, 2)
    assert network.kernel.shape == network.factors["K"].shape == low.kernel.shape == (3, 2)
    assert (low.factors["A"].shape, low.factors["B"].shape) == ((3, 1), (2, 1))
    assert network.bias.shape == network.log_theta.shape == (4,)
    assert network.beta.shape == (4, 2)
    assert network(index, index * 0, index, index.double()).shape == (3, 4)


def test_control_cells_have_no_effect_and_bounded_genes_stay_within_alpha():
    known, network = random_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(100)
        p, c = torch.tensor([0, 0, 1, 2, 3, 4, 1]), torch.tensor([0, 1, 0, 0, 0, 0, 1])
        effect = network.effect(p, c)
    assert not effect[:2].any()
    assert effect[2:6].abs().max() <= 1.7
    assert effect[6, ~known.unseen[1]].abs().max() <= 1.7
    assert abs(effect[6, 2]) > 1.7


def test_the_order_of_genes_does_not_matter():
    known, network = random_network()
    order = torch.tensor([2, 0, 3, 1])
    moved = Facts(
        known.gene_embedding[order], known.perturbation_embedding, known.log_control_mean[:, order],
        known.unseen[:, order], known.theta[order], known.phase_share,
    )  # fmt: skip
    other = NBGLMNetwork(
        moved, rank=None, bound="tanh", alpha=LearnedScalar("fixed", 1.7), cell_cycle=True, learn_theta=False
    )
    with torch.no_grad():
        other.factors["K"].copy_(network.factors["K"])
        other.bias.copy_(network.bias[order])
        other.beta.copy_(network.beta[order])
        index = torch.tensor([1, 2, 3]), torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), torch.zeros(3)
        torch.testing.assert_close(other(*index), network(*index)[:, order], rtol=1e-12, atol=1e-12)


def test_depths_in_another_unit_change_nothing_but_the_unit(data):
    """s → ks moves μ_ctrl to μ_ctrl / k, so expected counts, effects and θ stay."""
    design, k = data.design, 7.0
    plain, scaled = (facts_of(design, design.size_factor * f, 0.5, cell_cycle=False) for f in (1.0, k))
    torch.testing.assert_close(scaled.log_control_mean, plain.log_control_mean - math.log(k), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(scaled.theta, plain.theta, rtol=1e-6, atol=0)
    fits = [closed_form(design, design.size_factor * f, known, 0.5, 0.1) for f, known in ((1.0, plain), (k, scaled))]
    np.testing.assert_allclose(fits[1].kernel, fits[0].kernel, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fits[1].bias, fits[0].bias, rtol=1e-8, atol=1e-10)


# The closed-form start


def exact_start(data, ridge=0.3, **options):
    """The untrained model in float64."""
    design = data.design
    chosen = typed(NBGLMOptions, {"pseudo_count": 0.0, "start": {"ridge": ridge}, **options}, "model")
    known = facts_of(design, design.size_factor, chosen.pseudo_count, cell_cycle=False)
    network = build_network(known, chosen)
    fit = closed_form(design, design.size_factor, known, chosen.pseudo_count, ridge)
    start_from(network, fit)
    return NBGLM(network, chosen, losses.nb, ADAMW), fit


@pytest.mark.parametrize("rank", [None, 5])
def test_without_training_the_unbounded_model_is_the_linear_baseline(data, rank):
    units = data.design.units("test")
    model, _ = exact_start(data, bound="none", rank=rank)
    baseline = BilinearRidge(0.3, link="log").fit(data.design.training).predict(units)
    np.testing.assert_allclose(model.predict(units), baseline, atol=1e-8, rtol=0)


def test_a_smaller_rank_starts_at_the_best_approximation_of_that_rank(data):
    model, fit = exact_start(data, bound="none", rank=2)
    left, weight, right = np.linalg.svd(fit.kernel, full_matrices=False)
    with torch.no_grad():
        kernel = (model.network.log_alpha.exp() * model.network.kernel).numpy()
    np.testing.assert_allclose(kernel, (left[:, :2] * weight[:2]) @ right[:2], atol=1e-10)


def test_the_bound_moves_the_start_by_at_most_the_third_order(data):
    bounded, fit = exact_start(data)
    rows = data.design.training.perturbation_embedding
    linear = fit.effect(data.design.training.gene_embedding, rows)[1:]
    everyone = torch.arange(1, len(rows))
    with torch.no_grad():
        effect = bounded.network.effect(everyone, everyone * 0).numpy()
    limit = np.abs(linear) ** 3 / (3 * 5.0**2)
    assert np.abs(linear).max() > 0.5
    assert (np.abs(effect - linear) <= limit + 1e-12).all()


def test_a_gene_without_counts_and_without_prior_is_refused():
    sparse = simulated(mean_range=(1e-4, 2.0))
    with pytest.raises(DataError, match=r"pseudo_count=0.*type model\.pseudo_count=0\.5"):
        NBGLM.from_data(sparse, losses.nb, ADAMW, pseudo_count=0.0)


# The dead gene


def with_dead_gene():
    """A screen where gene 0 has no count in controls and mean 1 under every perturbation."""
    data = simulated(cells_per_perturbation=40)
    screen = data.read()
    dense = screen.expression.toarray()
    perturbed = screen.perturbation > 0
    dense[:, 0] = np.random.default_rng(0).poisson(screen.truth.size_factor) * perturbed
    screen.expression.__init__(dense)
    data.read = lambda: screen
    return data


@pytest.mark.medium
def test_a_gene_unseen_in_controls_can_rise_where_the_source_keeps_it_dead():
    data = with_dead_gene()
    units = data.design.units("test")
    for start in ("zero", "closed_form"):
        ours = fitted(data, epochs=60, optimizer=functools.partial(ADAMW, lr=0.05), start={"kind": start})
        assert np.expm1(ours.predict(units)[:, 0]).mean() > 0.5
    source = NBGLM.from_data(data, losses.nb, functools.partial(ADAMW, lr=0.05), start={"kind": "zero"})
    with torch.no_grad():
        source.network.log_control_mean[:, 0] = math.log(1e-8)  # log(0 + 1e-8), bounded like any other gene
        source.network.unseen[:] = False
    train(source, data, epochs=60)
    assert np.expm1(source.predict(units)[:, 0]).max() < 1e-5


# Penalties


@pytest.mark.medium
def test_l1_gives_exact_zeros_and_more_weight_more_of_them(data):
    zeros = []
    for weight in (0.0, 3e-3, 3e-2):
        kernel = fitted(data, epochs=30, regularization={"l1": weight}).network.kernel
        zeros.append(int((kernel == 0).sum()))
    assert zeros[0] == 0
    assert 0 < zeros[1] < zeros[2] <= 30


def test_the_group_penalty_drops_whole_columns_of_both_factors(data):
    network = fitted(data, epochs=40, rank=5, regularization={"group": 2e-3}).network
    gone = [(factor == 0).all(dim=0) for factor in network.factors.values()]
    assert 0 < gone[0].sum() < 5
    assert torch.equal(gone[0], gone[1])
    kept = torch.cat([factor[:, ~gone[0]].flatten() for factor in network.factors.values()])
    assert (kept != 0).all()


def test_l2_shrinks_the_kernel_and_not_the_bias(data):
    quick = functools.partial(ADAMW, lr=0.03)
    plain, shrunk = (fitted(data, epochs=30, optimizer=quick, regularization={"l2": w}).network for w in (0.0, 5.0))
    assert shrunk.kernel.norm() < 0.3 * plain.kernel.norm()
    assert shrunk.bias.norm() > 0.8 * plain.bias.norm()


# Options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, r"model\.rank=0"),
        ({"rank": 2, "regularization": {"l1": 0.1}}, r"model\.regularization\.group=\.\.\."),
        ({"regularization": {"group": 0.1}}, r"type model\.rank"),
        *(({"regularization": {name: -1e-9}}, rf"regularization\.{name}=-1e-09: .*≥ 0") for name in ("l1", "l2")),
        ({"rank": 1, "regularization": {"group": -1e-9}}, r"regularization\.group=-1e-09: .*≥ 0"),
        ({"regularization": {"l2": math.inf}}, r"model\.regularization\.l2=inf"),
        ({"regularization": {"l1": math.nan}}, r"model\.regularization\.l1=nan"),
        ({"alpha": {"value": 0.0}}, r"model\.alpha\.value=0"),
        ({"alpha": {"value": -1.0}}, r"model\.alpha\.value=-1"),
        ({"alpha": {"value": math.nan}}, r"model\.alpha\.value=nan"),
        ({"alpha": {"mode": "free"}}, r"model\.alpha\.mode='?free"),
        ({"bound": "sigmoid"}, r"model\.bound='?sigmoid"),
        ({"dispersion": "mle"}, r"model\.dispersion='?mle"),
        ({"pseudo_count": -1e-9}, r"model\.pseudo_count=-1e-09"),
        ({"pseudo_count": math.inf}, r"model\.pseudo_count=inf"),
        ({"start": {"kind": "random"}}, r"model\.start\.kind='?random"),
        ({"start": {"ridge": -1e-9}}, r"model\.start\.ridge=-1e-09"),
        ({"start": {"ridge": math.inf}}, r"model\.start\.ridge=inf"),
        ({"sampling": {"sampler": "normal"}}, r"model\.sampling\.sampler='?normal"),
        ({"sampling": {"heterogeneity": 0.0}}, r"model\.sampling\.heterogeneity=0"),
        ({"sampling": {"heterogeneity": math.inf}}, r"model\.sampling\.heterogeneity=inf"),
        ({"sampling": {"cells_per_unit": -1}}, r"model\.sampling\.cells_per_unit=-1"),
        ({"lasso": 1.0}, r"model\.lasso"),
        ({"cell_cycle": True}, r"data\.phase_key"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_message(data, options, said):
    with pytest.raises(RequestError, match=said):
        NBGLM.from_data(data, losses.nb, ADAMW, **options)


def test_options_at_the_ends_of_what_can_be():
    zero = {"l1": 0.0, "l2": 0.0, "group": 0.0}
    for rank, penalty in ((1, {"group": 1e-9}), (None, {"l1": 1e-9}), (1, zero), (None, zero)):
        NBGLMOptions(rank=rank, regularization=typed(Regularization, penalty, "model.regularization"))
    NBGLMOptions(pseudo_count=0.0, start=Initialisation(ridge=0.0), alpha=LearnedScalar(value=1e-9))
    NBGLMOptions(sampling=Sampling(heterogeneity=1e-9, cells_per_unit=0))


BLIND_TO_THETA = [
    losses.nb_deviance, losses.poisson_deviance, SquaredError(), losses.mse_log1p, losses.mse_anscombe
]  # fmt: skip


@pytest.mark.parametrize("loss", BLIND_TO_THETA, ids=lambda loss: loss.name)
def test_losses_that_do_not_know_theta_cannot_train_it(data, loss):
    with pytest.raises(MismatchError, match=rf"loss={loss.name}.*type loss=nb or model\.dispersion=moments"):
        NBGLM.from_data(data, loss, ADAMW, dispersion="learned")
    assert math.isfinite(training_loss(fitted(data, epochs=1, loss=loss), data))


def test_data_of_another_kind_or_scale_are_refused(data):
    with pytest.raises(MismatchError, match=r"the loss MSELoss does not state what it needs.*counts.*log_mu.*theta"):
        NBGLM.from_data(data, torch.nn.MSELoss(), ADAMW)
    logs = simulated()
    logs.normalize = True
    with pytest.raises(MismatchError, match=r"needs counts.*log1p"):
        NBGLM.from_data(logs, losses.nb, ADAMW)


def test_alpha_moves_only_where_it_is_learned(data):
    moved = fitted(data, epochs=5, alpha={"mode": "learned", "value": 1.0}).network
    fixed = fitted(data, epochs=5, alpha={"mode": "fixed", "value": 1.0}).network
    assert "log_alpha" not in dict(fixed.named_parameters())
    assert fixed.log_alpha == 0
    assert moved.log_alpha > 0.02  # planted at 2.5


@pytest.mark.medium
def test_learned_dispersions_move_to_the_planted_ones_and_fixed_ones_stay(data):
    truth = torch.from_numpy(data.design.screen.truth.theta).log().float()
    for mode in ("learned", "moments"):
        model = NBGLM.from_data(data, losses.nb, functools.partial(ADAMW, lr=0.05), dispersion=mode)
        with torch.no_grad():
            model.network.log_theta.copy_(truth + 2)
        network = train(model, data, epochs=25).network
        error = (network.log_theta.detach() - truth).square().mean().sqrt()
        assert error < 0.5 if mode == "learned" else error == pytest.approx(2, abs=1e-6)


def test_the_loss_is_the_whole_likelihood_where_theta_is_learned_and_half_the_deviance_where_not(data):
    rows = data.batches.rows(data.design)[0].take(np.arange(200))
    for dispersion in ("moments", "learned"):
        model = NBGLM.from_data(data, losses.nb, ADAMW, dispersion=dispersion)
        with torch.no_grad():
            log_mu = model.network(rows["perturbation"], rows["context"], rows["phase"], rows["log_size"])
            r, p = model.network.theta.double().numpy(), None
            mu, y = log_mu.double().exp().numpy(), rows["counts"].double().numpy()
            p = r / (r + mu)
            likelihood = stats.nbinom.logpmf(y, r, p)
            if dispersion == "moments":
                saturated = nb_log_prob(rows["counts"].double(), rows["counts"].double().log(), model.network.theta)
                likelihood = likelihood - saturated.numpy()
            assert float(model._data_loss(rows)) == pytest.approx(-likelihood.mean(), rel=1e-5)


@pytest.mark.parametrize("batches", [CellBatches(), PseudobulkBatches()], ids=["cells", "pseudobulk"])
def test_validation_error_is_that_of_the_mean_counts_of_a_cell(batches):
    data = simulated(batches)
    model, logged = NBGLM.from_data(data, losses.nb, ADAMW), {}
    model.log = lambda name, value, **_: logged.update({name: value})
    rows = batches.rows(data.design)[0].take(np.arange(20))
    for part in (slice(0, 13), slice(13, 20)):  # batches of unequal size
        model.validation_step({name: values[part] for name, values in rows.items()}, 0)
    with torch.no_grad():
        mu = model.network(rows["perturbation"], rows["context"], rows["phase"], rows["log_size"]).double().exp()
    error = (mu - rows["counts"]).abs() / rows["cells"][:, None]
    assert float(logged["val/mae"].compute()) == pytest.approx(float(error.mean()), rel=1e-5)
    assert not [name for name in model.state_dict() if "mae" in name]


@pytest.mark.medium
def test_planted_phase_effects_are_found():
    data = simulated(cell_cycle_sd=0.5, n_controls=1500)
    network = fitted(data, epochs=40, cell_cycle=True, optimizer=functools.partial(ADAMW, lr=0.02)).network
    truth, found = data.design.screen.truth.cell_cycle, network.beta.detach().numpy()
    assert np.corrcoef(truth.ravel(), found.ravel())[0, 1] > 0.9
    strong = np.abs(truth) > 0.5
    assert (np.sign(found) == np.sign(truth))[strong].mean() > 0.97


def test_without_size_factors_depth_is_ignored_everywhere(data):
    model = NBGLM.from_data(data, losses.nb, ADAMW, size_factor={"use_sf": False})
    rows = data.batches.rows(data.design)[0].take(np.arange(50))
    deeper = {**rows, "log_size": rows["log_size"] + 1}
    assert torch.equal(model._data_loss(deeper), model._data_loss(rows))
    units = data.design.units("test")
    shallow = model.sample(units, np.ones(len(units)), seed=0)
    np.testing.assert_array_equal(model.sample(units, np.full(len(units), 9.0), seed=0), shallow)
    control = data.design.screen.expression[data.design.role == "control"].astype(np.float64)
    plain = facts_of(data.design, np.ones(data.design.screen.n_cells), 0.0, cell_cycle=False)
    np.testing.assert_allclose(plain.log_control_mean[0].exp(), np.asarray(control.mean(axis=0)).ravel(), rtol=1e-6)


@pytest.mark.medium
def test_training_on_summed_cells_ends_near_training_on_cells():
    quick = functools.partial(ADAMW, lr=0.01)
    cells = fitted(simulated(), epochs=60, optimizer=quick).network.kernel.detach()
    sums = fitted(simulated(PseudobulkBatches()), epochs=400, optimizer=quick).network.kernel.detach()
    assert torch.nn.functional.cosine_similarity(cells.flatten(), sums.flatten(), dim=0) > 0.99
    assert 0.9 < sums.norm() / cells.norm() < 1.1


# Sampling


def test_sampled_cells_have_the_predicted_mean_at_their_depth(data):
    model = NBGLM.from_data(data, losses.nb, ADAMW)
    n, unit = 4000, data.design.units("test").take(np.array([0]))
    cells = Units(np.repeat(unit.perturbation, n), np.repeat(unit.context, n))
    for size in (0.5, 2.0):
        drawn = model.sample(cells, np.full(n, size), seed=3)
        mean = size * np.expm1(model.predict(unit)[0])
        theta = model.network.theta.numpy()
        z = (drawn.mean(axis=0) - mean) / np.sqrt((mean + mean**2 / theta) / n)
        assert np.abs(z).max() < 4.5
    np.testing.assert_array_equal(model.sample(cells, np.full(n, size), seed=3), drawn)
    plain = NBGLM.from_data(data, losses.nb, ADAMW, size_factor={"use_sf": False})
    mean = np.expm1(plain.predict(unit)[0])
    z = (plain.sample(cells, np.full(n, 2.0), seed=3).mean(axis=0) - mean) / np.sqrt((mean + mean**2 / theta) / n)
    assert np.abs(z).max() < 4.5


def test_a_run_writes_sampled_cells_where_it_was_asked_to(tmp_path):
    import anndata

    data = simulated(n_contexts=2)
    design = data.design
    model = NBGLM.from_data(data, losses.nb, ADAMW, sampling={"cells_per_unit": 30}, name="mine")
    write_samples(model, design, 5, tmp_path)
    cells = anndata.read_h5ad(tmp_path / "samples.h5ad")
    units = design.units("test")
    assert cells.shape == (30 * len(units), 40)
    assert cells.var_names.tolist() == design.screen.genes.tolist()
    assert (cells.uns["scale"], cells.uns["model"]) == ("counts", "mine")
    names = zip(units.perturbation, units.context, strict=True)
    expected = {(design.screen.perturbations[p], design.screen.contexts[c]): 30 for p, c in names}
    assert cells.obs.groupby(["perturbation", "context"], observed=True).size().to_dict() == expected
    values = cells.X.toarray()
    assert (values >= 0).all()
    assert (values == np.round(values)).all()
    for index, context in enumerate(design.screen.contexts):
        own = (design.role == "control") & (design.screen.context == index)
        drawn = cells.obs.loc[cells.obs["context"] == context, "size_factor"]
        assert np.isin(drawn, design.size_factor[own]).all()
        assert drawn.nunique() > 20
    again = model.samples(design, 5)
    assert (again.X != cells.X).nnz == 0
    assert (model.samples(design, 6).X != cells.X).nnz > 0


def test_nothing_is_written_where_no_cells_were_asked_for(data, tmp_path):
    model = NBGLM.from_data(data, losses.nb, ADAMW)
    assert model.samples(data.design, 0) is None
    write_samples(model, data.design, 0, tmp_path)
    write_samples(object(), data.design, 0, tmp_path)
    assert not list(tmp_path.iterdir())


# Real screens


@pytest.mark.medium
@pytest.mark.parametrize("batches", [CellBatches(), PseudobulkBatches()], ids=["cells", "pseudobulk"])
def test_training_on_a_real_screen_lowers_the_deviance_and_can_be_scored(data_dir, batches):
    data = H5adScreenData(
        name="papalexi",
        path=str(data_dir / "screens" / "papalexi21_thp1_merged_7108x585.h5ad"),
        perturbation_key="perturbation",
        control="non-targeting",
        split=UnseenPerturbation(folds=5, fold=0, val_fraction=0.15, seed=0),
        gene_embedding=TrainingPca(dimensions=10),
        perturbation_embedding=TableFile(path=str(data_dir / "gene" / "gene_emb_go_svd64.npz")),
        batches=batches,
    )
    before = training_loss(NBGLM.from_data(data, losses.nb, ADAMW), data)
    model = fitted(data, epochs=2 if batches.choice == "cells" else 40)
    assert training_loss(model, data) < before
    frame = evaluation_frame(data.design, {"nbglm": model.predict(data.design.units("test"))}, 0)
    found = Scores.of(measure(frame, None, {"core": Core()}), n_resamples=10).aggregate.query("model == 'nbglm'")
    assert np.isfinite(found.loc[found["metric"] != "discrimination_cosine", "mean"]).all()
