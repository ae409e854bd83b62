"""Baselines against naive loops over their definitions."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from training_profiles import CONTEXTS, GENES, NAMES, TEST, TRAIN, VALIDATION, profiles, units

from pertexp.config.errors import RequestError
from pertexp.data.screens.screen import members
from pertexp.models.baselines.kernel_ridge import KernelRidge
from pertexp.models.baselines.own_target import OwnTarget
from pertexp.models.baselines.screens import Additive, BilinearRidge, NearestNeighbours, NoChange, TrainMean

MODELS = [
    NoChange, TrainMean, Additive, lambda: BilinearRidge(0.1), BilinearRidge, lambda: NearestNeighbours(2),
    lambda: OwnTarget(TrainMean(), trained=True), lambda: OwnTarget(Additive()), KernelRidge,
]  # fmt: skip


@pytest.fixture
def training():
    return profiles()


def effects(training):
    """Effect of each training unit by (name, context), one subtraction at a time."""
    pairs = zip(training.units.perturbation, training.units.context, training.values, strict=True)
    return {(NAMES[p], int(c)): value - training.control[c] for p, c, value in pairs}


def mean_effect(training, context):
    known = effects(training)
    own = [effect for (_, c), effect in known.items() if c == context]
    return np.mean(own or list(known.values()), axis=0)


def test_no_change_is_the_control_of_the_context(training):
    found = NoChange().fit(training).predict(TEST)
    for row, context in zip(found, TEST.context, strict=True):
        np.testing.assert_array_equal(row, training.control[context])


def test_train_mean_is_the_mean_of_the_own_context_and_else_of_all(training):
    found = TrainMean().fit(training).predict(TEST)
    for row, context in zip(found, TEST.context, strict=True):
        np.testing.assert_allclose(row, training.control[context] + mean_effect(training, context), rtol=1e-12)


def additive_effect(training, name, context):
    known = effects(training)

    def of(target):
        everywhere = [effect for (n, _), effect in known.items() if n == target]
        return known.get((target, context), np.mean(everywhere, axis=0) if everywhere else None)

    if of(name) is not None:
        return of(name)
    parts = [of(target) for target in members(name)]
    if all(part is None for part in parts):
        return mean_effect(training, context)
    return sum(mean_effect(training, context) if part is None else part for part in parts)


def test_additive_sums_members_wherever_they_are_known(training):
    found = Additive().fit(training).predict(TEST)
    for row, p, context in zip(found, TEST.perturbation, TEST.context, strict=True):
        expected = training.control[context] + additive_effect(training, NAMES[p], context)
        np.testing.assert_allclose(row, expected, rtol=1e-12, err_msg=f"{NAMES[p]} in {context}")


def test_additive_recovers_planted_additive_pairs(training):
    rng = np.random.default_rng(1)
    planted = {name: rng.normal(size=GENES) for name in "ABCDE"}
    singles = units(*[(name, c) for name in "ABCDE" for c in range(CONTEXTS)])
    values = training.control[singles.context] + np.stack([planted[NAMES[p]] for p in singles.perturbation])
    known = replace(training, units=singles, values=values)
    pairs = units(*itertools.product(("A+B", "B+C", "D+E"), range(CONTEXTS)))
    truth = training.control[pairs.context] + np.stack(
        [sum(planted[m] for m in members(NAMES[p])) for p in pairs.perturbation]
    )
    np.testing.assert_allclose(Additive().fit(known).predict(pairs), truth, rtol=1e-12, atol=1e-12)


def test_in_a_held_out_context_additive_transfers_the_mean_over_contexts(training):
    found = Additive().fit(training).predict(units(("A", 2)))[0]
    known = effects(training)
    np.testing.assert_allclose(found, training.control[2] + (known["A", 0] + known["A", 1]) / 2, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5, 100])
def test_neighbours_are_the_most_similar_training_units(training, k):
    """By cosine, of the own context where it has units; equal similarities at the edge share what is left."""
    known = NearestNeighbours(k).fit(training)
    rows = training.perturbation_embedding
    for name, context in [("B+C", 0), ("E", 1), ("A+B", 2), ("D+E", 0)]:
        target = rows[NAMES.index(name)]
        pool = [i for i, c in enumerate(TRAIN.context) if c == context] or list(range(len(TRAIN)))
        cosine = {i: target @ rows[p] / np.linalg.norm(target) / np.linalg.norm(rows[p])
                  for i, p in enumerate(TRAIN.perturbation) if i in pool}  # fmt: skip
        left, total = float(min(k, len(pool))), np.zeros(GENES)
        for level in sorted({round(c, 9) for c in cosine.values()}, reverse=True):
            tied = [i for i in pool if round(cosine[i], 9) == level]
            share = min(left, len(tied)) / len(tied)
            total += share * sum(training.values[i] - training.control[TRAIN.context[i]] for i in tied)
            left -= share * len(tied)
        expected = training.control[context] + total / min(k, len(pool))
        np.testing.assert_allclose(known.predict(units((name, context)))[0], expected, rtol=1e-9)


def test_without_an_embedding_the_neighbours_and_the_ridge_fall_back_on_the_train_mean(training):
    lost = units(*[("F", c) for c in range(CONTEXTS)])
    mean = TrainMean().fit(training).predict(lost)
    np.testing.assert_allclose(NearestNeighbours(2).fit(training).predict(lost), mean, rtol=1e-12)
    centred = BilinearRidge(0.1).fit(training)
    bias = (training.values - (training.control + training.mean_effect)[TRAIN.context]).mean(axis=0)
    np.testing.assert_allclose(centred.predict(lost), mean + bias, rtol=1e-12)


@pytest.mark.parametrize("link", ["identity", "log"])
def test_the_ridge_is_the_formula_on_effects_centred_by_context(training, link):
    forward, back = {"identity": (lambda x: x, lambda x: x), "log": (lambda x: np.log(np.expm1(x)), None)}[link]
    back = back or (lambda x: np.log1p(np.exp(x)))
    genes, rows, ridge = training.gene_embedding, training.perturbation_embedding, 0.7
    values, control = forward(np.maximum(training.values, 1e-3)), forward(training.control)
    lifted = replace(training, values=np.maximum(training.values, 1e-3))
    shift = values - control[TRAIN.context]
    mean = np.stack([np.mean([s for s, c in zip(shift, TRAIN.context, strict=True) if c == own] or shift, axis=0)
                     for own in range(CONTEXTS)])  # fmt: skip
    y = (shift - mean[TRAIN.context]).T
    p = rows[TRAIN.perturbation]
    b = y.mean(axis=1)
    left = np.linalg.inv(genes.T @ genes + ridge * np.eye(3)) @ genes.T
    kernel = left @ (y - b[:, None]) @ p @ np.linalg.inv(p.T @ p + ridge * np.eye(4))
    linear = (genes @ kernel @ rows[TEST.perturbation].T).T + b + (control + mean)[TEST.context]
    found = BilinearRidge(ridge, link).fit(lifted).predict(TEST)
    np.testing.assert_allclose(found, back(linear), rtol=1e-8, atol=1e-10)


def test_a_ridge_not_given_is_chosen_and_told(training):
    fitted = BilinearRidge().fit(training)
    errors = {}
    for ridge in (0.1, 1.0, 10.0, 100.0, 1000.0):
        predicted = BilinearRidge(ridge).fit(training).predict(VALIDATION)
        errors[ridge] = np.square(predicted - training.validation_values).sum()
    assert fitted.ridge == min(errors, key=errors.get)


def test_the_ridge_of_another_fold_is_not_kept(training):
    """What validates one fold is tested in another: each fit chooses anew, as by itself."""
    clear = replace(training, validation_units=TRAIN, validation_values=training.values)
    still = replace(training, validation_units=TRAIN, validation_values=training.control[TRAIN.context])
    alone = [BilinearRidge().fit(one).ridge for one in (clear, still)]
    assert alone[0] != alone[1]
    model = BilinearRidge()
    assert [model.fit(one).ridge for one in (clear, still)] == alone


@pytest.mark.parametrize("build", MODELS)
def test_the_order_of_training_and_tested_units_does_not_matter(training, build):
    rng = np.random.default_rng(2)
    order, asked = rng.permutation(len(TRAIN)), rng.permutation(len(TEST))
    shuffled = replace(training, units=TRAIN.take(order), values=training.values[order])
    plain = build().fit(training).predict(TEST)
    moved = build().fit(shuffled).predict(TEST.take(asked))
    np.testing.assert_allclose(moved, plain[asked], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("build", MODELS)
def test_validation_profiles_are_never_fitted(training, build):
    """A baseline may choose by them; with the choice fixed, what they hold has no effect."""
    model = BilinearRidge(0.1) if isinstance(build(), BilinearRidge) else build()
    other = replace(training, validation_values=training.validation_values[::-1] * 7)
    plain = model.fit(training).predict(TEST)
    np.testing.assert_array_equal(model.fit(other).predict(TEST), plain)


@pytest.mark.parametrize("wrong", [lambda: BilinearRidge(-1.0), lambda: NearestNeighbours(0)])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(RequestError, match="expected"):
        wrong()
