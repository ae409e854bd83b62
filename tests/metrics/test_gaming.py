"""Six ways to win a naive metric without biology: each naive metric falls for one of them, and ours does not."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import cdist

from pertexp.metrics import vcc2026
from pertexp.metrics.cells import Cells
from pertexp.metrics.core import CORE, Scored

N, G = 24, 300


def planted(seed=0, signal=1.0, noise=1.0):
    """A model that gets the direction of effects half right; the first N genes are the targets, knocked down."""
    rng = np.random.default_rng(seed)
    control = np.tile(rng.uniform(0.5, 3.0, size=G), (N, 1))
    strength = np.linspace(0.3, 1.7, N)[:, None]
    effect = 0.3 * strength * rng.normal(size=(N, G))
    own = np.eye(N, G, dtype=bool)
    effect[own] = -1.5
    guess = signal * effect + noise * 0.3 * rng.normal(size=(N, G))
    guess[own] = 0.0
    tested = np.abs(effect) / 0.1
    return Scored(
        prediction=control + guess,
        truth=control + effect,
        control=control,
        held_out_control=control,
        shared_control=control,
        train_mean=control + effect.mean(axis=0),
        de_score=tested,
        de_fdr=np.where(tested > 3, 0.01, 0.5),
        shared_de_score=tested,
        shared_de_fdr=np.where(tested > 3, 0.01, 0.5),
        rest_score=tested,
        context=np.zeros(N, dtype=int),
        fold=np.zeros(N, dtype=int),
        own_target=own,
        panel_target=own.any(axis=0),
        counted=np.ones_like(own),
    )


def mean(name, view):
    return float(np.nanmean(CORE[name].function(view)))


def naive_rank(view, metric="cityblock", drop_own=True):
    """The discrimination of the challenge of 2025: l1, own target left out alone, ties in the order of names."""
    scores = []
    for unit in range(N):
        keep = ~view.own_target[unit] if drop_own else np.ones(G, dtype=bool)
        predicted = (view.prediction - view.control)[unit, keep]
        distances = cdist(predicted[None], (view.truth - view.control)[:, keep], metric)[0]
        scores.append(1 - np.argsort(np.argsort(distances, kind="stable"))[unit] / N)
    return float(np.mean(scores))


def test_inflated_effects_do_not_pay():
    view = planted(signal=0.3, noise=1.0)
    effect = view.prediction - view.control
    inflated = replace(view, prediction=view.control + 4 * effect)
    shrunk = replace(view, prediction=view.control + 0.05 * effect)
    assert naive_rank(inflated) > naive_rank(shrunk) + 0.1
    for name in ("discrimination_cosine", "pearson_delta", "de_overlap", "de_auprc", "de_direction"):
        assert mean(name, inflated) == pytest.approx(mean(name, shrunk), abs=1e-9)
    assert mean("mse", inflated) > 10 * mean("mse", shrunk)


def test_spiked_targets_do_not_pay():
    """The panel is known: in each perturbation all other targets stand out, and the rest of the profile is noise."""
    view = planted(signal=0.0)
    rng = np.random.default_rng(1)
    spiked = view.control + 1e-3 * rng.normal(size=(N, G))
    spiked[:, :N] += 5.0
    spiked[view.own_target] = 0.0
    cheat = replace(view, prediction=spiked)
    assert naive_rank(cheat, "cosine", drop_own=False) > 0.8
    assert mean("discrimination_cosine", cheat) == pytest.approx(0.5, abs=0.15)
    unspiked = np.where(view.panel_target, view.control, spiked)
    assert mean("discrimination_cosine", cheat) == mean("discrimination_cosine", replace(view, prediction=unspiked))


def test_predicted_controls_do_not_pay():
    """A tool that may choose its own controls can turn any prediction into any effect; ours are real on both sides."""
    view = planted(signal=0.0)
    wanted = view.truth.mean(axis=0) - view.control[0]
    own_control = view.prediction - wanted  # chosen so that its own difference is the mean effect
    naive = [np.corrcoef((view.prediction - own_control)[u], (view.truth - view.control)[u])[0, 1] for u in range(N)]
    assert np.mean(naive) > 0.15
    assert abs(mean("pearson_delta", view)) < 0.1
    assert "prediction_control" not in Scored.__dataclass_fields__


def test_a_constant_effect_gains_nothing():
    view = planted()
    constant = replace(view, prediction=view.control + np.linspace(-1, 1, G))
    same = np.tile((view.truth - view.control)[0], (N, 1))
    truths = replace(constant, truth=view.control + same)  # all alike: whatever is predicted, ties decide
    assert naive_rank(truths, drop_own=False) == pytest.approx((N + 1) / (2 * N), abs=1e-9)
    ranks = 1 - np.arange(N) / N
    order = [1 - np.argsort(np.argsort(np.zeros(N), kind="stable"))[u] / N for u in range(N)]
    assert order == ranks.tolist()  # the first of the alphabet wins
    np.testing.assert_array_equal(CORE["discrimination_cosine"].function(truths), 0.5)
    np.testing.assert_array_equal(CORE["discrimination_cosine_t"].function(constant), 0.5)
    assert mean("discrimination_cosine", constant) == pytest.approx(0.5, abs=0.05)


def counts(rng, log_mean, n):
    return rng.poisson(rng.gamma(3.0, np.exp(log_mean) / 3.0, size=(n, log_mean.size)))


def side(arms, control, seed=0):
    cells = [*arms, control]
    group = np.concatenate([np.full(len(c), u) for u, c in enumerate(arms)] + [np.full(len(control), -1)])
    matrix = sp.csr_matrix(np.concatenate(cells).astype(np.float32))
    return vcc2026.summarise(Cells(matrix, group, len(arms), "counts", np.ones(group.size)))


@pytest.fixture(scope="module")
def called():
    """Truth, an honest model, and one that moves every gene a little, in every cell, so that all are significant."""
    rng = np.random.default_rng(0)
    base, effect = rng.uniform(-1, 2, G), 0.8 * rng.normal(size=(8, G)) * (rng.uniform(size=(8, G)) < 0.15)
    control = counts(rng, base, 300)
    arms = {
        "truth": [counts(rng, base + row, 100) for row in effect],
        "honest": [counts(rng, base + row + 0.2 * rng.normal(size=G) * (row != 0), 100) for row in effect],
        "flood": [counts(rng, base + 0.7 * np.where(rng.uniform(size=G) < 0.5, 1, -1), 100) for _ in effect],
        "silent": [counts(rng, base, 100) for _ in effect],
    }
    return {name: side(cells, control) for name, cells in arms.items()}


def view(called, name):
    return vcc2026.CountView(called["truth"], called[name], np.zeros((8, G), dtype=bool), np.arange(G).astype(str))


def test_calling_every_gene_significant_does_not_pay(called):
    flood, honest = view(called, "flood"), view(called, "honest")
    real, predicted = flood.significant
    assert predicted.mean() > 0.6
    recall = (real & predicted).sum(axis=1) / real.sum(axis=1)
    honest_recall = (real & honest.significant[1]).sum(axis=1) / real.sum(axis=1)
    assert recall.mean() > honest_recall.mean() - 0.35  # recall falls for it
    for metric in ("sig_jaccard", "direction_fidelity_yield"):
        score = vcc2026.VCC2026[f"vcc2026/{metric}"].function
        assert score(honest).mean() > score(flood).mean() + 0.2


def test_calling_nothing_does_not_pay(called):
    silent = view(called, "silent")
    assert vcc2026.direction_fidelity_yield(silent).mean() < 0.05
    assert vcc2026.sig_jaccard(silent).mean() < 0.05


def test_flipped_signs_are_punished():
    view = planted(noise=0.3)
    flipped = replace(view, prediction=2 * view.control - view.prediction)
    size = np.abs(view.prediction - view.control), np.abs(view.truth - view.control)
    naive = [np.corrcoef(size[0][u], size[1][u])[0, 1] for u in range(N)]
    assert np.mean(naive) > 0.5  # sizes alone are the same either way
    assert mean("de_overlap", flipped) == mean(
        "de_overlap", view
    )  # as is the set of genes: hence the direction beside it
    assert mean("de_direction", flipped) == pytest.approx(1 - mean("de_direction", view))
    assert mean("pearson_delta", flipped) == pytest.approx(-mean("pearson_delta", view))
    assert mean("discrimination_cosine", flipped) < 0.2
