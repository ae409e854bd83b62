"""The kernel ridge baseline: planted effects, absent tables, and the train mean where there is nothing to go by."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from training_profiles import CONTEXTS, NAMES, TEST, TRAIN, profiles, units

from pertexp.config.errors import DataError
from pertexp.data.screens.datamodule import SimulatedScreenData
from pertexp.data.screens.design import TrainingProfiles, build_design
from pertexp.data.screens.embeddings import EmbeddingTable, Planted
from pertexp.data.screens.profiles import Units, unit_profiles
from pertexp.data.screens.screen import members
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import UnseenPerturbation
from pertexp.models.baselines.kernel_ridge import KernelRidge
from pertexp.models.baselines.own_target import OwnTarget
from pertexp.models.baselines.screens import TrainMean

N_TARGETS, N_GENES = 24, 30
TARGETS = tuple(f"T{number:02d}" for number in range(N_TARGETS))
HELD_OUT = 6


def screen(effects, perturbations, embedding):
    """Training profiles of all but the last perturbations, in one context, the others as they truly are."""
    rng = np.random.default_rng(9)
    control = rng.uniform(1, 3, (1, N_GENES))
    rows = np.arange(1, len(perturbations))
    every = Units(rows, np.zeros_like(rows))
    values = control + effects
    training = TrainingProfiles(
        perturbations=tuple(perturbations),
        genes=np.array([f"GENE{number}" for number in range(N_GENES)]),
        scale="mean_of_log1p",
        units=every.take(slice(None, -HELD_OUT)),
        values=values[:-HELD_OUT],
        validation_units=every.take(slice(0, 0)),
        validation_values=values[:0],
        control=control,
        gene_embedding=np.zeros((N_GENES, 1)),
        perturbation_embedding=embedding,
        target_table=EmbeddingTable(np.array(["A"]), np.ones((1, 1))),
    )
    return training, every.take(slice(-HELD_OUT, None)), values[-HELD_OUT:]


def planted(seed=0):
    """Single perturbations whose effects are linear in rows of unit length, and those rows."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(N_TARGETS, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    effects = rows @ rng.normal(size=(4, N_GENES)) + 0.5
    return rows, effects + 0.05 * rng.normal(size=effects.shape)


def written(path, names, rows):
    pd.DataFrame(rows, index=names).to_csv(path)
    return str(path)


def error(model, training, tested, truth):
    return np.square(model.fit(training).predict(tested) - truth).mean()


def told(caplog):
    return [message for message in caplog.messages if "squared error" in message][-1]


def test_effects_that_follow_a_table_are_found_and_those_of_a_permuted_one_are_not(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="pertexp")
    rows, effects = planted()
    training, tested, truth = screen(effects, ["control", *TARGETS], np.zeros((N_TARGETS + 1, 1)))
    mean = error(TrainMean(), training, tested, truth)
    found = error(KernelRidge({"string": written(tmp_path / "a.csv", TARGETS, 3 * rows)}), training, tested, truth)
    assert told(caplog).startswith("kernel ridge: string, λ")
    assert found < 0.2 * mean
    permuted = written(tmp_path / "b.csv", TARGETS, rows[np.random.default_rng(3).permutation(N_TARGETS)])
    embedding = np.concatenate([np.zeros((1, 4)), rows])
    both = replace(training, perturbation_embedding=embedding)
    found = error(KernelRidge({"string": permuted}), both, tested, truth)
    assert told(caplog).startswith("kernel ridge: embedding, λ")
    assert found < 0.2 * mean


def combinations():
    """All singles and some pairs; the held-out ones are pairs of trained members."""
    pairs = [(a, b) for a in range(8) for b in range(a + 1, 8)]
    pairs = [pairs[i] for i in np.random.default_rng(5).permutation(len(pairs))]
    return [*TARGETS[:8], *("+".join((TARGETS[a], TARGETS[b])) for a, b in pairs)]


def test_effects_that_add_up_are_found_from_members_and_size(caplog):
    caplog.set_level(logging.INFO, logger="pertexp")
    names = combinations()
    single = np.random.default_rng(6).normal(size=(8, N_GENES)) + 1.0
    effects = np.stack([sum(single[TARGETS.index(m)] for m in members(name)) for name in names])
    training, tested, truth = screen(effects, ["control", *names], np.zeros((len(names) + 1, 1)))
    mean = error(TrainMean(), training, tested, truth)
    assert error(KernelRidge(), training, tested, truth) < 0.02 * mean
    assert told(caplog).startswith("kernel ridge: size + members, λ")


def test_effects_of_size_alone_are_found(caplog):
    caplog.set_level(logging.INFO, logger="pertexp")
    rng = np.random.default_rng(7)
    names = combinations()
    direction = rng.normal(size=N_GENES)
    effects = np.stack([len(members(name)) * direction for name in names]) + 0.2 * rng.normal(size=(36, N_GENES))
    training, tested, truth = screen(effects, ["control", *names], np.zeros((len(names) + 1, 1)))
    mean = error(TrainMean(), training, tested, truth)
    assert error(KernelRidge(), training, tested, truth) < 0.5 * mean
    assert told(caplog).startswith("kernel ridge: size, λ")


def test_units_of_several_contexts_share_what_is_added_to_their_own_means(tmp_path):
    """Each context has its own mean effect; what a perturbation adds to it is the same in all."""
    rows, effects = planted()
    training, tested, _ = screen(effects, ["control", *TARGETS], np.concatenate([np.zeros((1, 4)), rows]))
    shift = np.random.default_rng(8).normal(size=N_GENES)
    control = np.stack([training.control[0], 2 * training.control[0]])
    n = len(training.units)
    twice = Units(np.tile(training.units.perturbation, 2), np.repeat([0, 1], n))
    values = np.concatenate([training.values, control[1] + training.effects + shift])
    both = replace(training, units=twice, values=values, control=control)
    known = KernelRidge().fit(both)
    first = known.predict(tested) - control[0]
    second = known.predict(Units(tested.perturbation, np.ones(len(tested), dtype=int))) - control[1]
    np.testing.assert_allclose(second, first + shift, rtol=1e-9, atol=1e-9)
    # A perturbation in two contexts counts twice against λ, and one in one context once.
    single = KernelRidge().fit(training).predict(tested) - control[0]
    assert np.abs(single - first).max() > 1e-6


def test_the_order_of_units_does_not_matter(tmp_path):
    rows, effects = planted()
    training, tested, _ = screen(effects, ["control", *TARGETS], np.concatenate([np.zeros((1, 4)), rows]))
    order = np.random.default_rng(2).permutation(len(training.units))
    shuffled = replace(training, units=training.units.take(order), values=training.values[order])
    plain = KernelRidge().fit(training).predict(tested)
    assert np.abs(plain - TrainMean().fit(training).predict(tested)).max() > 0.1
    moved = KernelRidge().fit(shuffled).predict(tested.take(slice(None, None, -1)))
    np.testing.assert_allclose(moved[::-1], plain, rtol=1e-9)


def test_a_target_without_a_row_has_the_mean_effect():
    rows, effects = planted()
    embedding = np.concatenate([np.zeros((1, 4)), rows])
    embedding[-1] = 0.0
    training, tested, _ = screen(effects, ["control", *TARGETS], embedding)
    found, mean = (model.fit(training).predict(tested) for model in (KernelRidge(), TrainMean()))
    np.testing.assert_array_equal(found[-1], mean[-1])
    assert np.abs(found[0] - mean[0]).max() > 0.1


def test_rows_of_a_table_count_by_direction_and_a_gene_without_one_has_the_mean_effect(tmp_path):
    rows, effects = planted()
    training, tested, _ = screen(effects, ["control", *TARGETS], np.zeros((N_TARGETS + 1, 1)))
    lengths = np.random.default_rng(4).uniform(0.1, 10, (N_TARGETS, 1))
    known = {"string": written(tmp_path / "unit.csv", TARGETS, rows)}
    scaled = {"string": written(tmp_path / "scaled.csv", TARGETS[:-1], (lengths * rows)[:-1])}
    plain, found = (KernelRidge(tables).fit(training).predict(tested) for tables in (known, scaled))
    np.testing.assert_allclose(found[:-1], plain[:-1], rtol=1e-9)
    mean = TrainMean().fit(training).predict(tested)
    np.testing.assert_array_equal(found[-1], mean[-1])
    assert np.abs(plain - mean).max(axis=1).min() > 0.1


def test_the_size_of_an_embedding_does_not_matter(caplog):
    """Kernels are brought to one size before they share a prediction, here that of rows and that of members."""
    caplog.set_level(logging.INFO, logger="pertexp")
    rng, names = np.random.default_rng(11), combinations()
    rows = np.stack([rng.normal(size=2) for _ in names])
    single = rng.normal(size=(8, N_GENES))
    effects = np.stack([sum(single[TARGETS.index(m)] for m in members(name)) for name in names])
    effects += 2 * rows @ rng.normal(size=(2, N_GENES)) + 0.3 * rng.normal(size=effects.shape)
    training, tested, _ = screen(effects, ["control", *names], np.concatenate([np.zeros((1, 2)), rows]))
    plain = KernelRidge().fit(training).predict(tested)
    assert {"members", "embedding"} <= set(told(caplog).split(",")[0].removeprefix("kernel ridge: ").split(" + "))
    large = replace(training, perturbation_embedding=training.perturbation_embedding * 10)
    np.testing.assert_allclose(KernelRidge().fit(large).predict(tested), plain, rtol=1e-9)


def test_members_that_do_not_recur_are_left_out_and_so_are_equal_sizes(caplog):
    caplog.set_level(logging.INFO, logger="pertexp")
    rows, effects = planted()
    training, _, _ = screen(effects, ["control", *TARGETS], np.concatenate([np.zeros((1, 4)), rows]))
    KernelRidge().fit(training)
    left_out = [message for message in caplog.messages if "relates no two" in message]
    assert [message.split()[5].strip(",") for message in left_out] == ["size", "members"]


@pytest.mark.parametrize("n", [1, 2])
def test_few_training_perturbations_are_enough(n):
    training = profiles()
    one = np.flatnonzero(np.isin(TRAIN.perturbation, [NAMES.index("A"), NAMES.index("E")][:n]))
    few = replace(training, units=TRAIN.take(one), values=training.values[one])
    found = KernelRidge().fit(few).predict(TEST)
    assert np.isfinite(found).all()
    if n == 1:
        np.testing.assert_array_equal(found, TrainMean().fit(few).predict(TEST))


def test_without_any_relation_it_is_the_train_mean():
    training = profiles()
    alone = np.flatnonzero([NAMES[p] != "A+C" for p in TRAIN.perturbation])
    bare = replace(training, units=TRAIN.take(alone), values=training.values[alone],
                   perturbation_embedding=np.zeros((len(NAMES), 2)))  # fmt: skip
    np.testing.assert_array_equal(KernelRidge().fit(bare).predict(TEST), TrainMean().fit(bare).predict(TEST))


def test_a_context_without_training_units_has_the_mean_of_all(tmp_path):
    training = profiles()
    found = KernelRidge().fit(training).predict(units(("F", CONTEXTS - 1)))[0]
    added = found - TrainMean().fit(training).predict(units(("F", CONTEXTS - 1)))[0]
    in_first = KernelRidge().fit(training).predict(units(("F", 0)))[0]
    np.testing.assert_allclose(added, in_first - TrainMean().fit(training).predict(units(("F", 0)))[0], atol=1e-12)


def test_a_table_that_is_not_there_is_a_note_and_one_that_is_wrong_an_error(tmp_path):
    there = written(tmp_path / "there.csv", TARGETS, np.ones((N_TARGETS, 2)))
    model = KernelRidge({"string": f"{tmp_path}/none.csv", "other": there})
    assert model.notes == (f"without the kernel string, for there is no file {tmp_path}/none.csv",)
    assert KernelRidge().notes == ()
    (tmp_path / "wrong.npz").write_text("no archive")
    with pytest.raises(DataError, match=r"wrong\.npz is not an embedding"):
        KernelRidge({"string": f"{tmp_path}/wrong.npz"})


@pytest.mark.parametrize("build", [KernelRidge, lambda: OwnTarget(TrainMean(), trained=True)])
def test_test_and_validation_cells_have_no_part_in_it(build):
    """Cells of held-out units get other counts; what is predicted of them remains."""
    simulator = SimulatedScreen(n_genes=30, n_perturbations=20, n_combinations=0, n_controls=60, effect_sd=1.5)
    planted = {f"{of}_embedding": Planted(of=f"{of}s") for of in ("gene", "perturbation")}
    options = SimulatedScreenData(name="simulated", simulator=simulator, split=UnseenPerturbation(), **planted)
    raw = options.read()
    design = build_design(raw, options)
    rows = np.isin(design.role, ["test", "val"])
    counts = raw.expression.toarray()
    counts[rows] = counts[rows][::-1, ::-1] * 3 + 1
    changed = build_design(replace(raw, expression=sp.csr_matrix(counts)), options)
    asked = design.units("test")
    truth, other = (unit_profiles(one.screen, one.size_factor, asked) for one in (design, changed))
    assert (np.abs(truth - other).max(axis=1) > 0.1).all()
    found, moved, mean = (
        model.fit(one.training).predict(asked)
        for model, one in ((build(), design), (build(), changed), (TrainMean(), design))
    )
    np.testing.assert_array_equal(moved, found)
    assert np.abs(found - mean).max() > 0.01
