"""Bootstrap intervals: coverage on planted means, clusters, edges."""

import numpy as np
import pytest
from scipy.stats import bootstrap, sem, t

from pertexp.evaluation.bootstrap import (
    ClusterBootstrap,
    Interval,
    bootstrap_mean,
    bootstrap_median,
    paired_difference,
)


def names(n):
    return np.array([f"p{i}" for i in range(n)])


def test_the_mean_is_the_mean_and_the_interval_holds_it():
    x = np.random.default_rng(0).normal(size=50)
    interval = bootstrap_mean(x, names(50))
    assert interval.mean == pytest.approx(x.mean(), abs=1e-15)
    assert interval.low < interval.mean < interval.high
    assert (interval.n, interval.n_clusters, interval.n_left_out) == (50, 50, 0)


def planted(kind, rng, n):
    """Values about a mean of 0."""
    values = {
        "normal": lambda: rng.normal(size=n),
        "bounded skewed": lambda: rng.beta(1, 4, n) - 0.2,
        "lognormal": lambda: rng.lognormal(0, 0.75, n) - np.exp(0.75**2 / 2),
    }
    return values[kind]()


def estimate(parts):
    """The mean of the units in the clusters, and its standard error by linearisation, written out."""
    units = np.concatenate(parts)
    around = np.array([(part - units.mean()).sum() for part in parts])
    return units.mean(), np.sqrt(len(parts) / (len(parts) - 1) * (around**2).sum()) / units.size


def by_hand(x, cluster, n_resamples, seed, level):
    """The studentised interval, resample by resample with clusters copied, no end nearer than Student's t."""
    parts = [x[cluster == name] for name in np.unique(cluster)]
    k, (mean, error) = len(parts), estimate(parts)
    ratios = []
    for counts in np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), n_resamples):
        again, own = estimate([parts[place] for place in np.repeat(np.arange(k), counts)])
        if own > 1e-9 * np.ptp(x):
            ratios.append((again - mean) / own)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    half = t.ppf((1 + level) / 2, k - 1)
    return mean - max(high, half) * error, mean - min(low, -half) * error


def test_a_percentile_interval_is_scipys():
    x = np.random.default_rng(1).gamma(2.0, size=80)
    own = ClusterBootstrap(np.arange(80), n_resamples=20_000)
    low, high = own.interval(np.concatenate([counts @ x / 80 for counts in own.counts()]))
    rng = np.random.default_rng(2)
    theirs = bootstrap((x,), np.mean, n_resamples=20_000, method="percentile", rng=rng).confidence_interval
    width = theirs.high - theirs.low
    np.testing.assert_allclose([low, high], theirs, atol=0.03 * width)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_units_have_students_interval(n, level):
    x = np.random.default_rng(n).lognormal(size=n)
    found = bootstrap_mean(x, names(n), level=level)
    assert (found.low, found.high) == pytest.approx(t.interval(level, n - 1, x.mean(), sem(x)), rel=1e-12)
    assert bootstrap_mean(x, names(n), n_resamples=1, seed=7, level=level) == found


def test_few_clusters_of_unequal_sizes_have_statsmodels_interval():
    regression = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(5), [1, 7, 2, 4, 3])
    x = rng.normal(1.0, 1.0, 5)[cluster] + rng.normal(size=cluster.size)
    fitted = regression.OLS(x, np.ones(x.size)).fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "df_correction": True}, use_t=True
    )
    found = bootstrap_mean(x, cluster)
    assert (found.low, found.high) == pytest.approx(tuple(fitted.conf_int()[0]), rel=1e-10)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("sizes", [[1] * 6, [1] * 30, [1, 7, 2, 4, 3, 1], [3, 1, 2] * 4])
def test_the_studentised_interval_is_that_of_clusters_copied(sizes, level):
    rng = np.random.default_rng(len(sizes))
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.lognormal(size=len(sizes))[cluster] + rng.lognormal(size=cluster.size)
    order = rng.permutation(x.size)
    found = bootstrap_mean(x[order], names(99)[10 + cluster[order]], 300, 4, level)
    assert (found.low, found.high) == pytest.approx(by_hand(x, cluster, 300, 4, level), rel=1e-9)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("x", [[0.1] * 5 + [-0.3], [0.0] * 6 + [1.0, 1.7], [0.0, 1e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1.0]])
def test_values_that_tie_have_the_interval_of_clusters_copied(x, level):
    """A third and a tenth of the resamples hold the tied value alone: no spread, no t. Near ties have one."""
    x = np.array(x)
    found = bootstrap_mean(x, np.arange(x.size), 300, 4, level)
    assert (found.low, found.high) == pytest.approx(by_hand(x, np.arange(x.size), 300, 4, level), rel=1e-9)


def test_the_resamples_without_spread_do_not_bring_an_end_to_the_mean():
    """They are the ones furthest above: without them, and without Student's t, the interval would begin at the mean."""
    x = np.array([0.1] * 5 + [-0.3])
    found = bootstrap_mean(x, names(6))
    assert found.low == pytest.approx(t.interval(0.95, 5, x.mean(), sem(x))[0], rel=1e-12)
    assert not found.excludes_zero


@pytest.mark.parametrize("n", [6, 9, 40])
def test_no_end_is_nearer_than_students_and_a_skewed_one_is_further(n):
    rng, further = np.random.default_rng(n), []
    for _ in range(20):
        x = rng.lognormal(size=n)
        found, (low, high) = bootstrap_mean(x, names(n), 500), t.interval(0.95, n - 1, x.mean(), sem(x))
        assert found.low <= low + 1e-12
        assert found.high >= high - 1e-12
        further.append(found.high > high + 1e-9)
    assert np.mean(further) > 0.8


@pytest.mark.medium
@pytest.mark.parametrize(
    ("kind", "least", "most"), [("normal", 93, 97), ("bounded skewed", 93, 97), ("lognormal", 90, 97)]
)
def test_coverage_of_a_planted_mean_of_seven(kind, least, most):
    rng, hits = np.random.default_rng(3), []
    for _ in range(1500):
        found = bootstrap_mean(planted(kind, rng, 7), np.arange(7), 1000)
        hits.append(found.low <= 0 <= found.high)
    assert least <= 100 * np.mean(hits) <= most


@pytest.mark.medium
@pytest.mark.parametrize(("level", "n"), [(0.95, 2), (0.95, 5), (0.8, 5), (0.95, 40), (0.8, 40)])
def test_coverage_of_a_planted_normal_mean(level, n):
    rng = np.random.default_rng(3)
    hits = [
        (found := bootstrap_mean(rng.normal(1.5, 2.0, n), names(n), 400, seed=i, level=level)).low <= 1.5 <= found.high
        for i in range(1000)
    ]
    assert np.mean(hits) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 1000))


@pytest.mark.medium
def test_coverage_over_clusters_that_share_and_differ_in_size():
    rng, cluster = np.random.default_rng(4), np.repeat(np.arange(7), [1, 2, 3, 4, 5, 1, 2])
    hits = []
    for _ in range(1500):
        found = bootstrap_mean(rng.normal(size=7)[cluster] + rng.normal(size=cluster.size), cluster, 1000)
        hits.append(found.low <= 0 <= found.high)
    assert 93 <= 100 * np.mean(hits) <= 97


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
    """Clusters of three zeros and of a one: residuals about 1/4 are -3/4 and 3/4; ends leave the range of 0 to 1."""
    x, cluster = np.array([0.0, 0.0, 0.0, 1.0]), np.array(["a", "a", "a", "b"])
    found = bootstrap_mean(x, cluster)
    half = t.ppf(0.975, 1) * np.sqrt(2 * 2 * 0.75**2) / 4
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25 - half, 0.25 + half), rel=1e-12)


def test_with_one_perturbation_the_rows_are_drawn():
    x = np.random.default_rng(5).normal(size=12)
    one = bootstrap_mean(x, np.full(12, "p"))
    rows = bootstrap_mean(x, [f"{i:02d}" for i in range(12)])
    assert (one.low, one.high) == (rows.low, rows.high)
    assert one.n_clusters == 1


def test_rows_that_are_not_applicable_are_left_out_and_counted():
    x = np.array([1.0, np.nan, 3.0, np.nan, 8.0, 2.0, 4.0, 5.0, -2.0])
    for n, kept in ((5, [0, 2, 4]), (9, [0, 2, 4, 5, 6, 7, 8])):
        interval, alone = bootstrap_mean(x[:n], names(n)), bootstrap_mean(x[kept], names(n)[kept])
        assert (interval.mean, interval.low, interval.high) == (alone.mean, alone.low, alone.high)
        assert (interval.n, interval.n_left_out) == (len(kept), 2)


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
    assert gap.low > 0.39
    assert not bootstrap_mean(a, names(30)).excludes_zero
    back = paired_difference(b, a, names(30))
    assert (back.low, back.high) == pytest.approx((-gap.high, -gap.low), abs=1e-12)


@pytest.mark.parametrize("sizes", [[1] * 4, [1] * 25, [4, 1, 2, 2, 3, 1, 1]])
@pytest.mark.parametrize(
    ("scale", "shift"), [(3.0, 2.0), (1e-200, 0.0), (1e200, 0.0), (-1.0, 0.0), (-0.5, 7.0), (1.0, 1e5)]
)
def test_shifting_scaling_and_turning_around_carry_over(sizes, scale, shift):
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    x = np.random.default_rng(9).gamma(1.0, size=cluster.size)
    base, moved = bootstrap_mean(x, cluster), bootstrap_mean(scale * x + shift, cluster)
    expected = sorted((scale * base.low + shift, scale * base.high + shift))
    assert [moved.low, moved.high] == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize("n", [5, 12])
def test_a_difference_turned_around_is_the_same_with_another_sign(n):
    a, b = np.random.default_rng(12).gamma(1.0, size=(2, n))
    one, other = paired_difference(a, b, names(n)), paired_difference(b, a, names(n))
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low), rel=1e-12)


def test_the_order_of_units_is_none_and_names_decide_only_what_is_drawn():
    rng = np.random.default_rng(13)
    for clusters, tolerance in ((5, 1e-12), (12, 0.05)):
        cluster = np.repeat(names(clusters), 2)
        x = rng.gamma(1.0, size=cluster.size)
        order, other = rng.permutation(x.size), np.repeat(rng.permutation(names(clusters)), 2)
        found = bootstrap_mean(x, cluster, 20_000)
        shuffled, renamed = bootstrap_mean(x[order], cluster[order], 20_000), bootstrap_mean(x, other, 20_000)
        assert (shuffled.low, shuffled.high) == pytest.approx((found.low, found.high), rel=1e-12)
        width = found.high - found.low
        np.testing.assert_allclose([renamed.low, renamed.high], [found.low, found.high], atol=tolerance * width)


@pytest.mark.parametrize("value", [0.1, -1e6 / 3, 0.0])
@pytest.mark.parametrize("sizes", [[1] * 3, [1] * 9, [2, 1, 5], [7, 1, 3, 2, 2, 9, 1]])
def test_equal_values_are_an_interval_without_width(value, sizes):
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    found = bootstrap_mean(np.full(cluster.size, value), cluster)
    assert found.low == found.high == found.mean == pytest.approx(value, rel=1e-12)
    assert found.excludes_zero == (value != 0)


def test_clusters_of_one_mean_are_an_interval_without_width():
    found = bootstrap_mean(np.array([0.0, 2.0, 1.0, 1.0, -1.0, 3.0]), ["a", "a", "b", "b", "c", "c"])
    assert (found.low, found.mean, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("n", [4, 9])
def test_an_infinite_mean_is_its_own_interval(n):
    found = bootstrap_mean([*np.arange(n - 1), -np.inf], names(n))
    assert (found.mean, found.low, found.high) == (-np.inf, -np.inf, -np.inf)


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


def test_an_interval_ends_at_the_bounds_of_its_statistic_in_either_order():
    wide = Interval(mean=0.9, low=0.2, high=1.4, n=4, n_clusters=4, n_left_out=0)
    for bounds in ((0.0, 1.0), (1.0, 0.0)):
        assert (wide.within(*bounds).low, wide.within(*bounds).high) == (0.2, 1.0)
    assert wide.within(0.3, 2.0).low == 0.3
    assert wide.within(0.0, np.inf) == wide.within(np.inf, 0.0) == wide
    none = Interval(mean=0.9, low=np.nan, high=np.nan, n=1, n_clusters=1, n_left_out=0)
    assert np.isnan([none.within(0.0, 1.0).low, none.within(0.0, 1.0).high]).all()


def test_two_thousand_resamples_are_drawn_unless_said_otherwise():
    values = np.random.default_rng(0).normal(size=9)
    names = np.arange(9).astype(str)
    assert bootstrap_mean(values, names) == bootstrap_mean(values, names, n_resamples=2000)
    assert bootstrap_mean(values, names) != bootstrap_mean(values, names, n_resamples=2001)
    assert ClusterBootstrap(np.arange(9)).n_resamples == 2000
