"""The simulated screen is the planted model, drawn from exactly."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pertexp.config.errors import RequestError
from pertexp.data.screens.screen import CONTROL, members
from pertexp.data.screens.simulator import BLOCK, SimulatedScreen, simulate_screen

SMALL = SimulatedScreen(
    n_genes=30, n_perturbations=6, cells_per_perturbation=40, n_controls=120, n_combinations=3, n_contexts=2
)


@pytest.fixture(scope="module")
def default():
    return SimulatedScreen()()


def expected_counts(screen):
    """Mean count of every cell and gene, one term of the published formula at a time."""
    truth = screen.truth
    mu = np.empty((screen.n_cells, screen.n_genes))
    phase = np.zeros(screen.n_cells, int) if screen.phase is None else screen.phase
    for cell in range(screen.n_cells):
        log_mu = np.log(truth.control_mean[screen.context[cell]])
        log_mu = log_mu + truth.effect[screen.perturbation[cell]] + math.log(truth.size_factor[cell])
        if phase[cell] > 0:
            log_mu = log_mu + truth.cell_cycle[:, phase[cell] - 1]
        mu[cell] = np.exp(log_mu)
    return mu


def test_the_screen_is_what_was_asked_for():
    screen = SMALL()
    assert screen.expression.shape == (120 + 9 * 40, 30)
    assert screen.expression.dtype == np.float32
    assert screen.expression.has_canonical_format
    assert screen.scale == "counts"
    assert screen.genes[0] == "GENE00001"
    assert screen.perturbations[0] == CONTROL
    assert list(screen.perturbations[1:]) == sorted(screen.perturbations[1:])
    assert len(set(screen.perturbations)) == 10
    assert np.bincount(screen.perturbation).tolist() == [120] + [40] * 9
    assert screen.contexts == ("context1", "context2")
    assert screen.phase is None
    assert screen.provenance["source"] == "simulated"
    assert screen.provenance["seed"] == 0


def test_every_perturbation_is_spread_evenly_over_contexts():
    screen = replace(SMALL, n_contexts=3)()
    cells = np.zeros((10, 3), int)
    np.add.at(cells, (screen.perturbation, screen.context), 1)
    assert (np.ptp(cells, axis=1) <= 1).all()


def test_combinations_are_pairs_of_singles_with_sorted_members():
    screen = replace(SMALL, n_combinations=15)()
    pairs = [members(name) for name in screen.perturbations if len(members(name)) == 2]
    assert len(pairs) == 15
    assert all(first < second for first, second in pairs)
    assert {gene for pair in pairs for gene in pair} == set(screen.truth.target_names)


@pytest.mark.parametrize(("share", "n_genes", "measured"), [(0.5, 30, 3), (0.0, 30, 0), (1.0, 30, 6), (1.0, 4, 4)])
def test_the_share_of_measured_targets(share, n_genes, measured):
    screen = replace(SMALL, measured_share=share, n_genes=n_genes)()
    targets = screen.truth.target_names
    assert len(targets) == 6
    assert len(set(targets) & set(screen.genes)) == measured
    assert sum(name.startswith("TARGET") for name in targets) == 6 - measured


def test_depth_gives_the_size_factor_back():
    screen = replace(SMALL, median_depth=3000.0)()
    np.testing.assert_allclose(screen.depth / np.median(screen.depth), screen.truth.size_factor, rtol=1e-12)
    assert np.median(screen.depth) == pytest.approx(3000.0)
    assert np.log(screen.truth.size_factor).std() == pytest.approx(0.4, rel=0.1)


def test_effects_are_the_low_rank_formula():
    screen = SMALL()
    truth = screen.truth
    rows = dict(zip(truth.target_names, truth.target_embedding, strict=True))
    assert not truth.effect[0].any()
    np.testing.assert_allclose(np.linalg.norm(truth.gene_embedding, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(truth.target_embedding, axis=1), 1.0, rtol=1e-12)
    for number, name in enumerate(screen.perturbations[1:], start=1):
        for gene in range(screen.n_genes):
            raw = sum(
                truth.gene_embedding[gene, i] * truth.kernel[i, j] * rows[member][j]
                for member in members(name)
                for i in range(8)
                for j in range(16)
            )
            assert truth.effect[number, gene] == pytest.approx(2.5 * math.tanh(raw), abs=1e-12)


def test_effects_have_the_spread_asked_for_and_stay_within_the_bound():
    many = SimulatedScreen(
        n_genes=400,
        n_perturbations=300,
        n_combinations=0,
        cells_per_perturbation=1,
        n_controls=1,
        gene_dim=30,
    )
    assert replace(many, effect_sd=0.1)().truth.effect[1:].std() == pytest.approx(0.1, rel=0.1)
    strong = replace(many, effect_sd=5.0, alpha=1.5)().truth.effect
    assert np.abs(strong).max() <= 1.5
    assert np.abs(strong).max() > 1.49


def test_an_interaction_is_planted_in_combinations_alone():
    without, planted = (replace(SMALL, n_genes=400, interaction=sd)() for sd in (0.0, 0.3))
    shift = planted.truth.effect - without.truth.effect
    combined = np.array([len(members(name)) > 1 for name in planted.perturbations])
    assert not shift[~combined].any()
    assert shift[combined].std() == pytest.approx(0.3, rel=0.06)


def test_counts_are_negative_binomial_around_the_planted_mean():
    """The randomised probability integral transform of every count is uniform (Dunn and Smyth 1996)."""
    screen = replace(SMALL, cell_cycle_sd=0.5, interaction=0.4, mean_range=(0.5, 20.0), seed=3)()
    mu, theta = expected_counts(screen), screen.truth.theta
    counts = screen.expression.toarray()
    law = stats.nbinom(theta, theta / (theta + mu))
    below = law.cdf(counts - 1)
    uniform = below + np.random.default_rng(0).uniform(size=mu.shape) * (law.cdf(counts) - below)
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-3
    for group in (screen.perturbation, screen.context, screen.phase):
        for code in np.unique(group):
            assert stats.kstest(uniform[group == code].ravel(), "uniform").pvalue > 1e-4
    per_gene = [stats.kstest(uniform[:, gene], "uniform").pvalue for gene in range(screen.n_genes)]
    assert min(per_gene) > 1e-4


def test_effects_can_be_seen_in_the_counts(default):
    scaled = default.expression.multiply(1 / default.truth.size_factor[:, None]).tocsr()
    mean = np.vstack([scaled[default.perturbation == code].mean(axis=0) for code in range(len(default.perturbations))])
    well_counted = default.truth.control_mean[0] > 0.5
    seen = np.log(np.asarray(mean)[1:, well_counted] / np.asarray(mean)[0, well_counted])
    planted = default.truth.effect[1:, well_counted]
    assert np.corrcoef(seen.ravel(), planted.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("as_mask", [True, False])
def test_the_truth_follows_the_cells_that_are_taken(as_mask):
    screen = replace(SMALL, cell_cycle_sd=0.5)()
    mask = (screen.context == 1) & ~np.isin(screen.perturbation, [2, 5])
    taken = screen.take_cells(mask if as_mask else np.flatnonzero(mask))
    assert (len(taken.perturbations), taken.contexts) == (8, ("context2",))
    np.testing.assert_array_equal(expected_counts(taken), expected_counts(screen)[mask])


def test_phases_appear_with_a_planted_cycle_only():
    planted = replace(SMALL, cell_cycle_sd=0.3, n_controls=2000)()
    assert np.array_equal(planted.phase, planted.truth.phase)
    shares = np.bincount(planted.phase) / planted.n_cells
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.04)
    assert planted.truth.cell_cycle.shape == (30, 2)
    assert planted.truth.cell_cycle.std() == pytest.approx(0.3, rel=0.3)
    plain = SMALL()
    assert not plain.truth.cell_cycle.any()
    assert not plain.truth.phase.any()


def test_contexts_differ_in_control_means_only_when_there_are_two():
    two = SMALL().truth.control_mean
    assert np.log(two[0] / two[1]).std() == pytest.approx(0.5 * math.sqrt(2), rel=0.4)
    one = replace(SMALL, n_contexts=1, mean_range=(0.1, 0.2))().truth.control_mean
    assert one.shape == (1, 30)
    assert 0.1 <= one.min() <= one.max() <= 0.2


def test_default_counts_are_as_sparse_as_real_ones(default):
    density = default.expression.nnz / np.prod(default.expression.shape)
    assert 0.1 < density < 0.4


def test_one_seed_one_screen():
    first, again, other = SMALL(), simulate_screen(SMALL), replace(SMALL, seed=1)()
    assert (first.expression != again.expression).nnz == 0
    assert np.array_equal(first.perturbation, again.perturbation)
    assert (first.expression != other.expression).nnz > 0
    assert not np.array_equal(first.truth.kernel, other.truth.kernel)


def test_blocks_are_drawn_from_seeds_of_their_own():
    """Cells of equal law in different blocks are not copies of one another."""
    config = SimulatedScreen(
        n_genes=20, n_perturbations=1, n_combinations=0, cells_per_perturbation=1, n_controls=3 * BLOCK,
        log_size_sd=0.0, mean_range=(5.0, 5.0),
    )  # fmt: skip
    counts = config().expression.toarray()
    assert len(np.unique(counts, axis=0)) == len(counts)


def test_the_smallest_screen():
    config = SimulatedScreen(
        n_genes=1, n_perturbations=1, cells_per_perturbation=1, n_controls=1, n_combinations=0, gene_dim=1,
        perturbation_dim=1, measured_share=0.0,
    )  # fmt: skip
    screen = config()
    assert screen.expression.shape == (2, 1)
    assert screen.perturbations == (CONTROL, "TARGET00001")


@pytest.mark.medium
def test_memory_is_the_sparse_matrix_and_one_block():
    config = SimulatedScreen(
        n_genes=1000, n_perturbations=20, n_combinations=0, cells_per_perturbation=500, n_controls=10_000
    )
    tracemalloc.start()
    screen = config()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    matrix = screen.expression.data.nbytes + screen.expression.indices.nbytes
    block = BLOCK * config.n_genes * 8
    assert matrix > 15 * block
    assert peak < matrix + 12 * block


COUNTS = ("n_genes", "n_perturbations", "cells_per_perturbation", "n_controls", "n_contexts", "gene_dim",
          "perturbation_dim")  # fmt: skip
SPREADS = ("interaction", "context_sd", "effect_sd", "log_theta_sd", "log_size_sd", "cell_cycle_sd")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *((name, 0, "1 or more") for name in COUNTS),
        *((name, -1e-9, "0 or more") for name in SPREADS),
        ("alpha", 0.0, "above 0"),
        ("median_depth", 0.0, "above 0"),
        ("n_combinations", -1, "0 to 15, the number of pairs"),
        ("n_combinations", 16, "0 to 15, the number of pairs"),
        ("measured_share", -1e-9, "0 to 1"),
        ("measured_share", 1 + 1e-9, "0 to 1"),
        ("mean_range", (2.0, 1.0), "ascending"),
        ("mean_range", (0.0, 1.0), "ascending"),
    ],
)
def test_fields_out_of_range_are_refused(field, value, expected):
    with pytest.raises(RequestError, match=rf"{field}=.*{expected}"):
        replace(SMALL, **{field: value})


def test_fields_at_the_ends_of_their_ranges():
    least = replace(SMALL, **dict.fromkeys(COUNTS, 1), **dict.fromkeys(SPREADS, 0.0), n_combinations=0)
    screen = replace(least, measured_share=1.0, mean_range=(1.0, 1.0), interaction_programs=1)()
    assert (screen.n_cells, screen.n_genes) == (2, 1)
    np.testing.assert_array_equal(screen.truth.control_mean, 1.0)
    replace(SMALL, n_combinations=15, measured_share=0.0)


def test_it_can_be_composed_by_hydra():
    utils = pytest.importorskip("hydra.utils")
    target = f"{SimulatedScreen.__module__}.{SimulatedScreen.__qualname__}"
    config = utils.instantiate({"_target_": target, "mean_range": [0.1, 1.0], "n_genes": 5})
    assert config().provenance["mean_range"] == [0.1, 1.0]


def test_programs_are_switched_on_by_pairs_of_susceptible_members():
    """The interaction is low-rank, its rows are sums of few programs, and it has the spread asked for."""
    wanted = replace(SMALL, n_perturbations=30, n_combinations=200, interaction=0.7, n_contexts=1)
    plain, planted = replace(wanted, interaction=0.0)(), replace(wanted, interaction_programs=2)()
    pairs = np.array([len(members(name)) > 1 for name in planted.perturbations])
    interaction = planted.truth.effect - plain.truth.effect
    assert not interaction[~pairs].any()
    np.testing.assert_allclose(interaction[pairs].std(), 0.7, rtol=0.1)
    assert np.linalg.matrix_rank(interaction, tol=1e-9) == 2
    assert len(np.unique(interaction[pairs].round(9), axis=0)) == 4  # neither, one, the other, both


def test_programs_leave_every_other_draw_as_it_was():
    a, b = replace(SMALL, interaction=0.5)(), replace(SMALL, interaction=0.5, interaction_programs=1)()
    single = np.array([len(members(name)) <= 1 for name in a.perturbations])
    np.testing.assert_array_equal(a.truth.effect[single], b.truth.effect[single])
    np.testing.assert_array_equal(a.truth.theta, b.truth.theta)


def test_no_program_is_refused():
    with pytest.raises(RequestError, match="interaction_programs=0"):
        replace(SMALL, interaction_programs=0)


def weighted(values):
    """One number that every entry and its place enter."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return float(flat @ np.cos(np.arange(flat.size)))


# Of this simulator itself: a change of what is drawn changes every number in README and docs.
FROZEN = {
    "counts": 141.2712885098469, "perturbation": 132.33962364619623, "context": -0.8892226822743314,
    "phase": 12.963517934576135, "gene_embedding": 1.3693306186358978, "target_embedding": -2.514792836948785,
    "kernel": 2.0231697488942957, "control_mean": -1.743173996204793, "theta": 5.530437840482769,
    "effect": 3.936756408117265, "cell_cycle": -1.875703466519958, "size_factor": 0.4865161731703864,
}  # fmt: skip


def test_a_seed_draws_what_it_always_drew():
    screen = replace(SMALL, interaction_programs=3, interaction=0.5, cell_cycle_sd=0.3)()
    drawn = {"counts": screen.expression.toarray(), "perturbation": screen.perturbation, "context": screen.context}
    drawn |= {"phase": screen.phase, **{name: getattr(screen.truth, name) for name in FROZEN.keys() - drawn.keys()}}
    assert {name: weighted(values) for name, values in drawn.items()} == pytest.approx(FROZEN, rel=1e-9)
