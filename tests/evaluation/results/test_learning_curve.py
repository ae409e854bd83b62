"""Learning curves from run folders whose numbers are known."""

from pathlib import Path

import numpy as np
import pytest
from scored_runs import UNITS, write_run

from pertexp.evaluation.results.learning_curve import LearningCurve, learning_curves
from pertexp.evaluation.results.settings import gather
from pertexp.evaluation.results.tables import tables_of
from pertexp.runs.schema import METRICS_FILE
from pertexp.tasks.registry import read_results

NOISE = np.random.default_rng(0).normal(0, 0.02, (4, 16))
ALL = (9, 10)  # training perturbations of both folds
MSE = {2: 0.6, 6: 0.4, 8: 0.35, 16: 0.3, None: 0.3}
BASELINES = {
    2: {"b": 0.5, "c": 0.45, "d": 0.9},
    6: {"b": 0.5, "c": 0.45, "d": 0.9},
    8: {"b": 0.32, "c": 0.45, "d": 0.9},
    16: {"b": 0.31, "c": 0.45, "d": 0.9},
    None: {"b": 0.31, "c": 0.45, "d": 0.9},
}


def noise(limit: int | None) -> np.ndarray:
    return NOISE[{2: 0, 6: 1, 8: 2}.get(limit, 3)]


def write_limited(root: Path, *limits: int | None, **typed) -> Path:
    for limit in limits:
        for fold in (0, 1):
            units = UNITS[8 * fold : 8 * fold + 8]
            values = (MSE[limit] + noise(limit))[8 * fold : 8 * fold + 8]
            write_run(
                root / "-".join(map(str, [limit, fold, *typed.values()])),
                {"data.split.n_train": limit, "data.split.fold": fold, **typed},
                values, fold=fold, units=units, baselines=BASELINES[limit], trained=min(limit or 99, ALL[fold]),
            )  # fmt: skip
    return root


def read(root: Path):
    found = gather(sorted(path.parent for path in root.glob(f"*/{METRICS_FILE}")), read_results)
    (table,) = tables_of(found.settings)
    return table, found.refused


def curve_of(root: Path) -> LearningCurve:
    (curve,) = learning_curves(read(root)[0])
    return curve


def test_points_go_from_few_to_many_with_the_scores_of_their_own_runs(tmp_path):
    curve = curve_of(write_limited(tmp_path, None, 8, 2, 6))
    assert [point.trained for point in curve.points] == [(2,), (6,), (8,), ALL]
    assert [point.size for point in curve.points] == [2, 6, 8, 9.5]
    for point, limit in zip(curve.points, (2, 6, 8, None), strict=True):
        own, baseline = point.values["m"], point.values["b"]
        assert own.mean == pytest.approx(MSE[limit] + noise(limit).mean(), rel=1e-12)
        assert own.low < own.mean < own.high
        assert baseline.mean == pytest.approx(BASELINES[limit]["b"], rel=1e-12)
    assert (curve.label, curve.model, curve.metric, curve.replicate) == ("m", "m", "mse", None)


def test_baselines_are_those_that_are_best_at_some_number(tmp_path):
    assert curve_of(write_limited(tmp_path, 2, 6, 8, None)).baselines == ("c", "b")


def test_growth_is_the_paired_difference_of_the_largest_and_one_well_below_it(tmp_path):
    """8 of 9.5 is too near, 6 is not; n of paired units are those of both folds."""
    curve = curve_of(write_limited(tmp_path, 2, 6, 8, None))
    assert curve.smaller.trained == (6,)
    found = curve.growth
    assert (found.model, found.reference) == ("m data.split.n_train=None", "m data.split.n_train=6")
    assert found.difference == pytest.approx(-0.1 + (noise(None) - noise(6)).mean(), rel=1e-12)
    assert (found.n, found.outcome, found.basis) == (16, "better", "setting")
    assert found.low < found.difference < found.high < 0


def test_where_all_are_near_the_largest_is_compared_with_the_smallest(tmp_path):
    assert curve_of(write_limited(tmp_path, 8, None)).smaller.trained == (8,)


def test_the_largest_is_compared_with_its_own_best_baseline(tmp_path):
    curve = curve_of(write_limited(tmp_path, 2, 8, None))
    assert (curve.verdict.model, curve.verdict.reference) == ("m data.split.n_train=None", "b")
    assert curve.verdict.difference == pytest.approx(0.3 + noise(None).mean() - 0.31, rel=1e-9)
    assert curve.comparisons == [curve.growth, curve.verdict]


def test_without_baselines_there_is_no_verdict(tmp_path, monkeypatch):
    monkeypatch.setitem(BASELINES, 2, {})
    monkeypatch.setitem(BASELINES, None, {})
    curve = curve_of(write_limited(tmp_path, 2, None))
    assert (curve.baselines, curve.verdict, curve.comparisons) == ((), None, [curve.growth])


def test_more_than_there_are_is_the_same_as_all_and_shown_once(tmp_path):
    table, refused = read(write_limited(tmp_path, 2, 8, 16, None))
    assert {one.overrides["data.split.n_train"] for one in table.settings} == {"2", "8", "None"}
    assert {one.folder.name for one in refused} == {"16-0", "16-1"}
    assert {one.reason for one in refused} == {
        "not counted: data.split.n_train=16 keeps all of the 10 training perturbations, as data.split.n_train=null does"
    }
    table, refused = read(write_limited(tmp_path / "without", 8, 16))
    assert len(table.settings) == 2
    assert refused == []


def test_a_limit_that_holds_in_one_fold_stays_a_setting_and_all_is_shown(tmp_path, monkeypatch):
    monkeypatch.setitem(MSE, 10, 0.7)
    monkeypatch.setitem(BASELINES, 10, BASELINES[None])
    table, refused = read(write_limited(tmp_path, 2, 10, None))
    assert (len(table.settings), refused) == (3, [])
    (curve,) = learning_curves(table)
    assert [point.trained for point in curve.points] == [(2,), ALL]
    assert curve.points[-1].values["m"].mean < 0.4


def test_runs_that_differ_in_more_are_no_repeats_and_have_curves_of_their_own(tmp_path):
    for rate in (0.1, 0.2):
        write_limited(tmp_path, 2, 16, **{"optimizer.lr": rate})
    write_limited(tmp_path, None, **{"optimizer.lr": 0.2})
    table, refused = read(tmp_path)
    assert {one.folder.name for one in refused} == {"16-0-0.2", "16-1-0.2"}
    curves = learning_curves(table)
    assert sorted(curve.label for curve in curves) == ["m optimizer.lr=0.1", "m optimizer.lr=0.2"]
    assert {len(curve.points) for curve in curves} == {2}


def test_where_it_was_not_swept_or_is_not_on_record_there_is_no_curve(tmp_path):
    write_limited(tmp_path / "one", None)
    assert learning_curves(read(tmp_path / "one")[0]) == ()
    write_limited(tmp_path / "two", 2, None)
    for limit in (2, None):
        for fold in (0, 1):
            (tmp_path / "two" / f"{limit}-{fold}" / "data.json").unlink()
        assert learning_curves(read(tmp_path / "two")[0]) == ()
