"""Bootstrap intervals: coverage on planted means, clusters, edges."""

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, t

from pertexp.evaluation.bootstrap import ClusterBootstrap, Interval, bootstrap_mean, bootstrap_median, paired_difference


def names(n):
    return np.array([f"p{i}" for i in range(n)])


def test_the_mean_is_the_mean_and_the_interval_holds_it():
    x = np.random.default_rng(0).normal(size=50)
    interval = bootstrap_mean(x, names(50))
    assert interval.mean == pytest.approx(x.mean(), abs=1e-15)
    assert interval.low < interval.mean < interval.high
    assert (interval.n, interval.n_clusters, interval.n_left_out) == (50, 50, 0)


def test_the_interval_is_scipys_percentile_bootstrap():
    x = np.random.default_rng(1).gamma(2.0, size=80)
    ours = bootstrap_mean(x, names(80), n_resamples=20_000)
    rng = np.random.default_rng(2)
    theirs = bootstrap((x,), np.mean, n_resamples=20_000, method="percentile", rng=rng).confidence_interval
    width = theirs.high - theirs.low
    np.testing.assert_allclose([ours.low, ours.high], theirs, atol=0.03 * width)


@pytest.mark.medium
@pytest.mark.parametrize(("level", "n"), [(0.95, 3), (0.95, 7), (0.95, 40), (0.8, 40)])
def test_coverage_of_a_planted_normal_mean(level, n):
    """The interval is nearly mean ± z·s/√n with the plug-in s, whose coverage Student's t gives."""
    z = norm.ppf((1 + level) / 2)
    expected = 2 * t.cdf(z * np.sqrt((n - 1) / n), df=n - 1) - 1
    rng = np.random.default_rng(3)
    hits = [
        (interval := bootstrap_mean(rng.normal(1.5, 2.0, n), names(n), 400, seed=i, level=level)).low
        <= 1.5
        <= interval.high
        for i in range(1000)
    ]
    assert np.mean(hits) == pytest.approx(expected, abs=3 * np.sqrt(expected * (1 - expected) / 1000))


def test_rows_of_one_perturbation_move_together():
    rng = np.random.default_rng(4)
    x = np.repeat(rng.normal(size=20), 5)
    clustered = bootstrap_mean(x, np.repeat(names(20), 5))
    single = bootstrap_mean(x[::5], names(20))
    assert (clustered.low, clustered.high) == pytest.approx((single.low, single.high), abs=1e-12)
    assert (clustered.n, clustered.n_clusters) == (100, 20)
    naive = bootstrap_mean(x, names(100))
    assert naive.high - naive.low < 0.6 * (clustered.high - clustered.low)


def test_unequal_clusters_weigh_by_their_rows():
    x, cluster = np.array([0.0, 0.0, 0.0, 1.0]), np.array(["a", "a", "a", "b"])
    outer, inner = bootstrap_mean(x, cluster, level=0.9), bootstrap_mean(x, cluster, level=0.2)
    assert (outer.mean, outer.low, outer.high) == (0.25, 0.0, 1.0)
    assert (inner.low, inner.high) == (0.25, 0.25)


def test_with_one_perturbation_the_rows_are_drawn():
    x = np.random.default_rng(5).normal(size=12)
    one = bootstrap_mean(x, np.full(12, "p"))
    rows = bootstrap_mean(x, [f"{i:02d}" for i in range(12)])
    assert (one.low, one.high) == (rows.low, rows.high)
    assert one.n_clusters == 1


def test_rows_that_are_not_applicable_are_left_out_and_counted():
    x = np.array([1.0, np.nan, 3.0, np.nan, 8.0])
    interval = bootstrap_mean(x, names(5))
    kept = bootstrap_mean(x[[0, 2, 4]], names(5)[[0, 2, 4]])
    assert (interval.mean, interval.low, interval.high) == (kept.mean, kept.low, kept.high)
    assert (interval.n, interval.n_left_out) == (3, 2)


def test_one_value_has_no_interval_and_none_has_no_mean():
    one = bootstrap_mean(np.array([0.7]), names(1))
    assert one.mean == 0.7
    assert np.isnan([one.low, one.high]).all()
    assert not one.excludes_zero
    none = bootstrap_mean(np.array([np.nan, np.nan]), names(2))
    assert np.isnan([none.mean, none.low, none.high]).all()
    assert (none.n, none.n_left_out) == (0, 2)


def test_the_seed_decides():
    x = np.random.default_rng(6).normal(size=30)
    assert bootstrap_mean(x, names(30), seed=1) == bootstrap_mean(x, names(30), seed=1)
    assert bootstrap_mean(x, names(30), seed=1) != bootstrap_mean(x, names(30), seed=2)


def test_draws_in_blocks_are_the_draws_at_once(monkeypatch):
    x = np.random.default_rng(7).normal(size=30)
    whole = bootstrap_mean(x, names(30), n_resamples=500)
    monkeypatch.setattr("pertexp.evaluation.bootstrap._BLOCK", 30 * 70)
    blocks = bootstrap_mean(x, names(30), n_resamples=500)
    assert (whole.low, whole.high) == (blocks.low, blocks.high)


def test_pairing_takes_away_what_two_models_share():
    rng = np.random.default_rng(8)
    shared = rng.normal(0.0, 10.0, size=30)
    a, b = shared + 0.5 + 0.1 * rng.normal(size=30), shared + 0.1 * rng.normal(size=30)
    gap = paired_difference(a, b, names(30))
    assert gap.excludes_zero
    assert gap.low > 0.4
    assert not bootstrap_mean(a, names(30)).excludes_zero
    back = paired_difference(b, a, names(30))
    assert (back.low, back.high) == pytest.approx((-gap.high, -gap.low), abs=1e-12)


def test_shifting_and_scaling_carry_over():
    x = np.random.default_rng(9).normal(size=25)
    base, moved = bootstrap_mean(x, names(25)), bootstrap_mean(3 * x + 2, names(25))
    assert (moved.low, moved.high) == pytest.approx((3 * base.low + 2, 3 * base.high + 2), abs=1e-12)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_interval_of_a_median_is_that_of_rows_copied(n):
    x = np.random.default_rng(10).normal(size=n)
    found = bootstrap_median(x, names(n), n_resamples=200, seed=4)
    counts = np.random.default_rng(4).multinomial(n, np.full(n, 1 / n), 200)
    medians = [np.median(np.repeat(x, times)) for times in counts]
    assert found.mean == np.median(x)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(medians, [0.025, 0.975])), rel=1e-12)


@pytest.mark.parametrize(("low", "high", "apart"), [(0.0, 1.0, False), (-1.0, 0.0, False), (0.1, 1.0, True)])
def test_an_interval_that_ends_at_zero_holds_it(low, high, apart):
    assert Interval(0.5, low, high, 9, 9, 0).excludes_zero == apart


def test_two_thousand_resamples_are_drawn_unless_said_otherwise():
    values = np.random.default_rng(0).normal(size=9)
    names = np.arange(9).astype(str)
    assert bootstrap_mean(values, names) == bootstrap_mean(values, names, n_resamples=2000)
    assert bootstrap_mean(values, names) != bootstrap_mean(values, names, n_resamples=2001)
    assert ClusterBootstrap(np.arange(9)).n_resamples == 2000
