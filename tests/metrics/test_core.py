"""Screen metrics against naive loops and scipy, and the properties that keep them from being gamed."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.spatial.distance import cosine as cosine_distance
from scipy.stats import pearsonr, rankdata
from scored_profiles import N_GENES, values, view

from pertexp.metrics.core import CORE, TOP_GENES

DISCRIMINATION = (
    "discrimination_l2",
    "discrimination_cosine",
    "discrimination_l2_t",
    "discrimination_cosine_t",
)
PEARSON = ("pearson_delta", "pearson_delta_mean", "pearson_delta_top20")


def naive_discrimination(scored, distance, transpose):
    keep = ~scored.panel_target
    out = np.full(len(scored.truth), np.nan)
    for u in range(len(out)):
        pool = [
            v for v in range(len(out)) if scored.context[v] == scored.context[u] and scored.fold[v] == scored.fold[u]
        ]
        if len(pool) < 3:
            continue
        control = scored.control[u, keep]
        fixed = (scored.truth if transpose else scored.prediction)[u, keep] - control
        ranked = scored.prediction if transpose else scored.truth
        d = [distance(fixed, ranked[v, keep] - control) for v in pool]
        out[u] = 1 - (rankdata(d)[pool.index(u)] - 1) / (len(pool) - 1)
    return out


def euclid(a, b):
    return np.linalg.norm(a - b)


def cosine_or_one(a, b):
    return cosine_distance(a, b) if np.linalg.norm(a) > 0 and np.linalg.norm(b) > 0 else 1.0


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(("kind", "distance"), [("l2", euclid), ("cosine", cosine_or_one)])
@pytest.mark.parametrize("folds", [1, 3])
def test_discrimination_equals_a_naive_loop(kind, distance, transpose, folds):
    scored = view(folds=folds, noise=4.0)
    name = f"discrimination_{kind}{'_t' if transpose else ''}"
    expected = naive_discrimination(scored, distance, transpose)
    assert 0 < expected.mean() < 1
    np.testing.assert_allclose(values(name, scored), expected, atol=1e-14)


@pytest.mark.parametrize("transpose", [False, True])
def test_an_effect_of_zero_norm_is_at_cosine_distance_one(transpose):
    scored = view(n=8, contexts=1, noise=4.0)
    truth, prediction = scored.truth.copy(), scored.prediction.copy()
    truth[1], prediction[3] = scored.control[1], scored.control[3]
    zeros = replace(scored, truth=truth, prediction=prediction)
    name = "discrimination_cosine_t" if transpose else "discrimination_cosine"
    expected = naive_discrimination(zeros, cosine_or_one, transpose)
    np.testing.assert_allclose(values(name, zeros), expected, atol=1e-14)


@pytest.mark.parametrize("transpose", [False, True])
def test_discrimination_ties_are_mid_ranks(transpose):
    scored = view(n=6, contexts=1, noise=1.0)
    truth, prediction = scored.truth.copy(), scored.prediction.copy()
    truth[1], prediction[3] = truth[0], prediction[2]
    tied = replace(scored, truth=truth, prediction=prediction)
    name = "discrimination_l2_t" if transpose else "discrimination_l2"
    np.testing.assert_allclose(values(name, tied), naive_discrimination(tied, euclid, transpose), atol=1e-14)


def test_candidates_that_differ_by_rounding_alone_are_tied():
    scored = view(n=5, contexts=1)
    effect = np.random.default_rng(1).normal(size=N_GENES)
    length = np.array([0.3, 0.7, 1.1, 1.3, 1.7])[:, None]
    collapsed = replace(scored, prediction=scored.control + length * effect)
    np.testing.assert_array_equal(values("discrimination_cosine_t", collapsed), np.full(5, 0.5))


@pytest.mark.parametrize("name", ["pearson_delta", "pearson_delta_mean"])
def test_pearson_equals_scipy(name):
    scored = view()
    reference = scored.control if name == "pearson_delta" else scored.train_mean
    rows = zip(scored.prediction - reference, scored.truth - reference, strict=True)
    np.testing.assert_allclose(values(name, scored), [pearsonr(p, t).statistic for p, t in rows], atol=1e-13)


def test_top20_equals_scipy_on_the_genes_of_highest_score_without_own_targets():
    scored = view()
    expected = []
    for u in range(len(scored.truth)):
        order = [g for g in np.argsort(-scored.de_score[u]) if not scored.own_target[u, g]][:TOP_GENES]
        p, t = ((side - scored.control)[u, order] for side in (scored.prediction, scored.truth))
        expected.append(pearsonr(p, t).statistic)
    np.testing.assert_allclose(values("pearson_delta_top20", scored), expected, atol=1e-13)


def test_top20_ignores_the_own_target_however_large():
    scored = view(n=4, contexts=1)
    spiked = replace(
        scored,
        de_score=np.where(scored.own_target, 1e6, scored.de_score),
        prediction=np.where(scored.own_target, -1e3, scored.prediction),
        truth=np.where(scored.own_target, -1e3, scored.truth),
    )
    shared = scored.de_score.copy()
    shared[scored.own_target] = 0
    plain = replace(scored, de_score=shared)
    np.testing.assert_allclose(values("pearson_delta_top20", spiked), values("pearson_delta_top20", plain), atol=1e-9)


def test_top20_shares_the_last_places_among_tied_genes():
    scored = view(n=3, contexts=1)
    order = np.random.default_rng(5).permutation(N_GENES)
    tied = replace(scored, de_score=np.repeat([[2.0] * 15 + [1.0] * (N_GENES - 15)], 3, axis=0))
    shuffled = permute_genes(tied, order)
    np.testing.assert_allclose(values("pearson_delta_top20", tied), values("pearson_delta_top20", shuffled), atol=1e-13)
    for u, got in enumerate(values("pearson_delta_top20", tied)):
        places = np.array([1.0] * 15 + [6 / (N_GENES - 15)] * (N_GENES - 15))
        places[u] = 0.0
        pair = tied.prediction[u] - tied.control[u], tied.truth[u] - tied.control[u]
        cov = np.cov(*pair, aweights=places)
        assert got == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), abs=1e-12)


def test_top20_is_not_applicable_only_where_nothing_was_tested():
    scored = view(n=4, contexts=1)
    de = scored.de_score.copy()
    de[2] = np.nan
    missing = np.isnan(values("pearson_delta_top20", replace(scored, de_score=de)))
    np.testing.assert_array_equal(missing, [False, False, True, False])


def test_errors_equal_plain_means():
    scored = view()
    gap = scored.prediction - scored.truth
    np.testing.assert_allclose(values("mse", scored), [np.mean(row**2) for row in gap], rtol=1e-14)
    np.testing.assert_allclose(values("mae", scored), [np.mean(abs(row)) for row in gap], rtol=1e-14)


@pytest.mark.parametrize("name", CORE)
def test_a_perfect_prediction_is_best(name):
    scored = view(folds=2)
    perfect = replace(scored, prediction=scored.truth)
    np.testing.assert_allclose(values(name, perfect), CORE[name].best, atol=1e-12)


@pytest.mark.parametrize("name", DISCRIMINATION)
@pytest.mark.parametrize("seed", range(5))
def test_a_constant_prediction_scores_exactly_one_half(name, seed):
    scored = view(n=9, contexts=3, seed=seed)
    constant = replace(scored, prediction=scored.control + np.random.default_rng(seed).normal(size=N_GENES))
    for pool in scored.pools:
        assert np.mean(values(name, constant)[pool]) == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize("name", ["discrimination_cosine", *DISCRIMINATION[2:]])
def test_no_change_scores_exactly_one_half_for_every_unit(name):
    scored = view()
    np.testing.assert_array_equal(values(name, replace(scored, prediction=scored.control)), 0.5)


@pytest.mark.parametrize("name", DISCRIMINATION)
def test_a_training_mean_of_each_fold_scores_exactly_one_half(name):
    scored = view(n=12, contexts=1, folds=3)
    effect = scored.truth - scored.control
    mean = np.stack([effect[scored.fold != fold].mean(axis=0) for fold in scored.fold])
    trained = replace(scored, prediction=scored.control + mean)
    assert values(name, trained).mean() == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize("name", DISCRIMINATION)
def test_targets_of_the_panel_change_nothing_in_discrimination(name):
    scored = view(noise=4.0)
    spiked = replace(scored, prediction=np.where(scored.panel_target, -50.0, scored.prediction))
    knocked = replace(spiked, truth=np.where(scored.own_target, -50.0, scored.truth))
    np.testing.assert_array_equal(values(name, knocked), values(name, scored))
    assert values("mse", spiked).min() > values("mse", scored).max()


def test_the_gaming_that_lifts_l2_leaves_cosine_discrimination_alone():
    scored = view(n=40, contexts=1, noise=3.0)
    for factor in (2.0, 3.0, 10.0, 1e6):
        inflated = replace(scored, prediction=scored.control + factor * (scored.prediction - scored.control))
        for name in ("discrimination_cosine", "discrimination_cosine_t"):
            np.testing.assert_array_equal(values(name, inflated), values(name, scored))


def test_inflation_does_lift_l2_discrimination():
    """The known weakness that the cosine beside it is there to show."""
    scored = view(n=40, contexts=1, noise=0.0)
    effect = scored.truth - scored.control
    length = np.linspace(0.2, 3.0, 40)[:, None]
    uneven = replace(scored, truth=scored.control + length * effect)
    weak = replace(uneven, prediction=scored.control + 0.05 * length * effect)
    strong = replace(uneven, prediction=scored.control + 20 * length * effect)
    assert values("discrimination_l2", strong).mean() > values("discrimination_l2", weak).mean() + 0.2
    assert values("discrimination_cosine", strong).mean() == values("discrimination_cosine", weak).mean()


@pytest.mark.parametrize("name", DISCRIMINATION)
def test_opposite_effects_are_told_apart(name):
    scored = view(n=4, contexts=1)
    effect = np.random.default_rng(3).normal(size=N_GENES)
    pair = np.array([[1.0], [-1.0], [0.5], [-0.5]]) * effect
    antipodal = replace(scored, truth=scored.control + pair, prediction=scored.control - pair)
    assert values(name, antipodal).max() <= 0.5


@pytest.mark.parametrize("name", PEARSON)
def test_a_flipped_sign_sends_pearson_to_its_negative(name):
    scored = view()
    reference = scored.train_mean if name == "pearson_delta_mean" else scored.control
    flipped = replace(scored, prediction=2 * reference - scored.prediction)
    np.testing.assert_allclose(values(name, flipped), -values(name, scored), atol=1e-13)


def permute_genes(scored, order):
    moved = {f.name: getattr(scored, f.name)[:, order] for f in fields(scored) if getattr(scored, f.name).ndim == 2}
    return replace(scored, **moved, panel_target=scored.panel_target[order])


@pytest.mark.parametrize("name", CORE)
def test_the_order_of_genes_does_not_matter(name):
    scored = view(folds=2, noise=3.0)
    shuffled = permute_genes(scored, np.random.default_rng(1).permutation(N_GENES))
    np.testing.assert_allclose(values(name, shuffled), values(name, scored), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CORE)
def test_the_order_of_units_does_not_matter(name):
    scored = view(folds=2, noise=3.0)
    order = np.random.default_rng(1).permutation(len(scored.truth))
    rows = {f.name: getattr(scored, f.name)[order] for f in fields(scored) if f.name != "panel_target"}
    np.testing.assert_allclose(values(name, replace(scored, **rows)), values(name, scored)[order], rtol=1e-12)


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize(("n", "applicable"), [(1, False), (2, False), (3, True)])
def test_fewer_than_three_candidates_are_not_applicable(name, n, applicable):
    got = values(name, view(n=n, contexts=2))
    assert got.shape == (2 * n,)
    assert np.isnan(got).all() == (name.startswith((*DISCRIMINATION, "centroid_accuracy")) and not applicable)


@pytest.mark.parametrize("name", PEARSON)
@pytest.mark.parametrize("shift", [0.0, 0.1])
@pytest.mark.parametrize("side", ["prediction", "truth"])
def test_an_effect_without_variance_is_worst(name, shift, side):
    scored = view()
    reference = scored.train_mean if name == "pearson_delta_mean" else scored.control
    flat = replace(scored, **{side: reference + shift})
    np.testing.assert_array_equal(values(name, flat), -1.0)


def test_one_gene_has_no_correlation():
    scored = view(n=3, genes=4)
    one = permute_genes(scored, np.array([3]))
    for name in PEARSON:
        np.testing.assert_array_equal(values(name, one), -1.0)
    assert not np.isnan(values("mse", one)).any()


@pytest.mark.parametrize("name", DISCRIMINATION)
def test_a_panel_that_targets_every_gene_tells_nothing_apart(name):
    scored = view(n=5, contexts=1)
    everything = replace(scored, panel_target=np.ones(N_GENES, dtype=bool))
    np.testing.assert_array_equal(values(name, everything), 0.5)


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("scale", [1e-120, 1e120])
def test_the_unit_of_measurement_does_not_matter(name, scale):
    scored = view(n=5, noise=3.0)
    tables = ("prediction", "truth", "control", "held_out_control", "shared_control", "train_mean")
    scaled = replace(scored, **{table: scale * getattr(scored, table) for table in tables})
    power = {"mse": 2, "wmse": 2, "mse_top20": 2, "mae": 1}.get(name, 0)
    np.testing.assert_allclose(values(name, scaled), values(name, scored) * scale**power, rtol=1e-9)


@pytest.mark.medium
def test_a_thousand_units_at_once():
    scored = view(n=1000, genes=1100, contexts=1, noise=0.1)
    for metric in CORE.values():
        got = metric.function(scored)
        assert got.shape == (1000,)
        assert np.isfinite(got).all()
    np.testing.assert_array_equal(values("discrimination_cosine", scored), 1.0)


def test_every_row_of_the_table_is_named_after_its_function_and_is_bounded():
    for name, metric in CORE.items():
        assert name == metric.name == metric.function.__name__
        assert metric.best != metric.worst
        got = metric.function(view(noise=5.0))
        assert (got >= min(metric.best, metric.worst)).all()
        assert (got <= max(metric.best, metric.worst)).all()


def test_a_prediction_far_off_does_not_blur_the_ranks_of_the_others():
    """What counts as a tie follows the distances of one prediction, not those of all."""
    scored = view(n=6, contexts=1)
    prediction = scored.prediction.copy()
    prediction[3] += 1e14
    found = values("discrimination_l2", replace(scored, prediction=prediction))
    others = np.arange(6) != 3
    np.testing.assert_array_equal(found[others], values("discrimination_l2", scored)[others])
    assert found[3] == 0.5


RANKED = tuple(f"discrimination_{kind}{side}" for kind in ("cosine", "l2") for side in ("", "_t"))
AGAINST_CONTROL = ("pearson_delta", "pearson_delta_top20", *RANKED, "de_overlap", "de_direction", "de_auprc")


def apart(**options):
    """A view whose control cells are held out in part: three references, and tests against two of them."""
    scored = view(noise=3.0, **options)
    rng = np.random.default_rng(9)
    held_out = scored.control + 0.7 * rng.normal(size=N_GENES)
    return replace(
        scored,
        held_out_control=held_out,
        shared_control=0.4 * scored.control + 0.6 * held_out,
        shared_de_score=np.abs(rng.normal(size=scored.truth.shape)),
        shared_de_fdr=rng.choice([0.01, 0.5], size=scored.truth.shape),
    )


@pytest.mark.parametrize("name", AGAINST_CONTROL)
def test_predictions_are_against_fitted_and_truth_against_held_out_controls(name):
    """An effect is a difference: truth moved by the difference of the references has the same one against the other."""
    scored = apart()
    moved = replace(scored, truth=scored.truth - scored.held_out_control + scored.control,
                    held_out_control=scored.control)  # fmt: skip
    np.testing.assert_allclose(values(name, scored), values(name, moved), atol=1e-12)
    same = replace(scored, held_out_control=scored.control)
    assert not np.allclose(values(name, scored), values(name, same), equal_nan=True) or name in (
        "de_overlap",
        "de_auprc",
    )


def test_pearson_delta_is_that_of_scipy_with_two_references():
    scored = apart()
    rows = zip(scored.prediction - scored.control, scored.truth - scored.held_out_control, strict=True)
    np.testing.assert_allclose(values("pearson_delta", scored), [pearsonr(*row).statistic for row in rows], atol=1e-12)


@pytest.mark.parametrize("name", AGAINST_CONTROL)
def test_shared_controls_are_all_cells_on_both_sides(name):
    scored = apart()
    shared = replace(scored, control=scored.shared_control, held_out_control=scored.shared_control,
                     de_score=scored.shared_de_score, de_fdr=scored.shared_de_fdr)  # fmt: skip
    found = values(f"{name}_shared_control", scored)
    np.testing.assert_array_equal(found, values(name, shared))
    assert not np.allclose(found, values(name, scored), equal_nan=True)


@pytest.mark.parametrize("name", AGAINST_CONTROL)
def test_a_prediction_without_effect_has_none_against_shared_controls_either(name):
    scored = apart()
    none = replace(scored, prediction=scored.control)
    shared = replace(none, prediction=scored.shared_control, control=scored.shared_control)
    found = values(f"{name}_shared_control", none)
    np.testing.assert_array_equal(found, values(f"{name}_shared_control", shared))
    assert (found == -1.0).all() == name.startswith("pearson")


@pytest.mark.parametrize("name", AGAINST_CONTROL)
def test_without_held_out_controls_a_metric_does_not_apply(name):
    scored = apart()
    none = scored.context == 1
    for field in ("held_out_control", "de_score", "de_fdr"):
        scored = replace(scored, **{field: np.where(none[:, None], np.nan, getattr(scored, field))})
    found, whole = values(name, scored), values(name, apart())
    assert np.isnan(found[none]).all()
    np.testing.assert_array_equal(found[~none], whole[~none])
    shared = f"{name}_shared_control"
    np.testing.assert_array_equal(values(shared, scored), values(shared, apart()))


@pytest.mark.parametrize("name", sorted(set(AGAINST_CONTROL) - {"pearson_delta"}))
def test_perturbed_genes_are_counted_where_asked_for(name):
    scored = apart()
    none = np.zeros_like(scored.own_target)
    counted = replace(scored, own_target=none, panel_target=none.any(axis=0))
    np.testing.assert_array_equal(values(f"{name}_with_targets", scored), values(name, counted))


@pytest.mark.parametrize(("name", "references"), [("pearson_delta", ("control", "held_out_control")),
                                                  ("pearson_delta_mean", ("train_mean", "train_mean"))])  # fmt: skip
def test_perturbed_genes_are_left_out_where_asked_for(name, references):
    scored = apart()
    of_prediction, of_truth = (getattr(scored, reference) for reference in references)
    expected = [
        pearsonr((scored.prediction[u] - of_prediction[u])[keep], (scored.truth[u] - of_truth[u])[keep]).statistic
        for u, keep in enumerate(~scored.own_target)
    ]
    np.testing.assert_allclose(values(f"{name}_without_targets", scored), expected, atol=1e-12)
    assert not np.allclose(values(name, scored), expected)


def test_every_effect_metric_has_its_variants():
    effects = {name for name in CORE if CORE[name].space.startswith("effect")}
    plain = {name for name in effects if not name.endswith(("_shared_control", "_with_targets", "_without_targets"))}
    assert plain == {*AGAINST_CONTROL, "pearson_delta_mean"}
    assert {f"{name}_shared_control" for name in AGAINST_CONTROL} <= effects
    assert all(len({f"{name}_with_targets", f"{name}_without_targets"} & effects) == 1 for name in plain)


def test_the_noise_of_a_shared_control_mean_is_no_score():
    """Perturbations that do nothing, and a mean of others that do nothing: all that correlates is the reference."""
    rng = np.random.default_rng(0)
    units, genes = 200, 400
    means = 0.1 * rng.normal(size=(units + 1, genes))  # true profiles, and a mean of training profiles: noise about 0
    truth, prediction = means[:units], np.tile(means[units:] * 0.3, (units, 1))
    fitted, held_out = (np.tile(0.2 * rng.normal(size=genes), (units, 1)) for _ in range(2))
    base = view(n=units, genes=genes, contexts=1)
    scored = replace(base, truth=truth, prediction=prediction, control=fitted, held_out_control=held_out,
                     shared_control=(fitted + held_out) / 2)  # fmt: skip
    assert values("pearson_delta_shared_control", scored).mean() > 0.6
    assert abs(values("pearson_delta", scored).mean()) < 0.1


@pytest.mark.parametrize("scale", [1e-180, 1e180])
@pytest.mark.parametrize("name", PEARSON)
def test_effects_whose_squares_leave_the_range_of_floats_are_compared(name, scale):
    scored = view(n=5, noise=3.0)
    tables = ("prediction", "truth", "control", "held_out_control", "shared_control", "train_mean")
    scaled = replace(scored, **{table: scale * getattr(scored, table) for table in tables})
    np.testing.assert_allclose(values(name, scaled), values(name, scored), rtol=1e-9)


@pytest.mark.parametrize("name", PEARSON)
def test_a_gene_panel_without_any_expression_has_no_correlation(name):
    scored = view(n=4, contexts=1)
    nothing = np.zeros_like(scored.truth)
    tables = ("prediction", "truth", "control", "held_out_control", "shared_control", "train_mean")
    empty = replace(scored, **dict.fromkeys(tables, nothing))
    np.testing.assert_array_equal(values(name, empty), -1.0)


def test_the_error_of_the_top_genes_needs_no_held_out_controls():
    """Tests against all control cells choose the genes."""
    scored = apart()
    nothing = np.full_like(scored.truth, np.nan)
    found = values("mse_top20", replace(scored, held_out_control=nothing, de_score=nothing, de_fdr=nothing))
    score = np.where(scored.own_target, -1.0, scored.shared_de_score)
    top = np.argsort(-score, axis=1)[:, :TOP_GENES]
    error = np.take_along_axis((scored.prediction - scored.truth) ** 2, top, axis=1)
    np.testing.assert_allclose(found, error.mean(axis=1), rtol=1e-12)
