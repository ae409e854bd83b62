"""Runs sorted into settings, pooled, averaged, chosen on validation: on run folders whose numbers are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scored_runs import UNITS, write_run

from pertexp.config.errors import RequestError
from pertexp.evaluation.results.choice import Choice
from pertexp.evaluation.results.settings import Gathered, gather
from pertexp.evaluation.results.tables import ResultsTable, tables_of
from pertexp.report.results import selection_text, settings_frame
from pertexp.report.sentences import verdict_sentences
from pertexp.runs.documents import validated
from pertexp.runs.schema import METRICS_FILE, ScreenMetrics
from pertexp.tasks.registry import read_results


def gathered(root: Path, choice: Choice | None = None) -> Gathered:
    return gather(sorted(path.parent for path in root.glob(f"*/{METRICS_FILE}")), read_results, choice)


def the_table(root: Path, choice: Choice | None = None) -> ResultsTable:
    (table,) = tables_of(gathered(root, choice).settings)
    return table


def folds(fold: int) -> list[str]:
    return UNITS[8 * fold : 8 * fold + 8]


@pytest.fixture
def rates(tmp_path):
    """Two rates, two folds, two seeds; validation prefers 0.1 in fold 0, 0.2 in fold 1, the test units 0.2 in both."""
    losses = {(0.1, 0): (1.0, 1.4), (0.2, 0): (1.3, 1.2), (0.1, 1): (2.0, 2.0), (0.2, 1): (1.9, 2.0)}
    for (rate, fold), of_seeds in losses.items():
        for seed, loss in enumerate(of_seeds):
            typed = {"optimizer.lr": rate, "data.split.fold": fold, "seed": seed}
            values = np.full(8, {0.1: 0.4, 0.2: 0.3}[rate] + 0.01 * seed) + 0.001 * np.arange(8)
            write_run(tmp_path / f"{rate}-{fold}-{seed}", typed, values, fold=fold, units=folds(fold),
                      validation=f'{{"val/loss": {loss}, "val/score": {-loss}}}')  # fmt: skip
    return tmp_path


BY_LOSS = Choice("val/loss", ("optimizer.lr",))


def test_settings_are_what_differs_other_than_folds_and_seeds(rates):
    table = the_table(rates)
    assert [one.overrides for one in table.settings] == [{"optimizer.lr": "0.2"}, {"optimizer.lr": "0.1"}]
    assert {(one.setting.n_folds, one.setting.n_seeds) for one in table.settings} == {(2, 2)}
    mean = 0.3 + 0.005 + 0.001 * 3.5
    assert table.rows[0].values["mse"].mean == pytest.approx(mean, rel=1e-12)
    assert table.rows[0].values["mse"].sd == pytest.approx(0.01 / np.sqrt(2), rel=1e-9)
    assert table.verdict[0].difference == pytest.approx(mean - 0.5, rel=1e-12)
    assert (table.verdict[0].outcome, table.verdict[0].n) == ("better", 16)
    assert selection_text(table).startswith("best of 2 settings, chosen on these units: m optimizer.lr=0.2")


def test_each_fold_takes_the_value_that_is_best_on_validation_in_the_mean_over_seeds(rates):
    found = gathered(rates, BY_LOSS)
    (setting,) = found.settings
    assert [(one.where, one.values, one.n_candidates) for one in setting.chosen] == [
        ("0", {"optimizer.lr": "0.1"}, 2), ("1", {"optimizer.lr": "0.2"}, 2),
    ]  # fmt: skip
    assert [one.value for one in setting.chosen] == pytest.approx([1.2, 1.95])
    (table,) = tables_of(found.settings)
    expected = (0.4 + 0.3) / 2 + 0.005 + 0.001 * 3.5
    assert table.rows[0].values["mse"].mean == pytest.approx(expected, rel=1e-12)
    assert [refused.reason.split(":")[0] for refused in found.refused] == ["not chosen"] * 4
    assert "optimizer.lr chosen in each fold by val/loss, on validation units" in selection_text(table)
    assert "best of" not in selection_text(table)
    frame = settings_frame([table])
    assert frame["chosen"].iloc[0] == "optimizer.lr=0.1 (fold 0); optimizer.lr=0.2 (fold 1)"


def test_what_was_swept_beside_stays_a_setting(rates):
    for path in sorted(rates.glob("*/config/*.yaml")):
        text = path.read_text()
        path.write_text(text + ("- model.rank=2\n" if path.name == "overrides.yaml" else "rank: 2\n"))
    for rate in (0.1, 0.2):
        typed = {"optimizer.lr": rate, "data.split.fold": 0, "seed": 0, "model.rank": 4}
        write_run(
            rates / f"other-{rate}", typed, np.full(8, rate), units=folds(0), validation=f'{{"val/loss": {rate}}}'
        )
    found = gathered(rates, BY_LOSS)
    assert sorted(len(setting.runs) for setting in found.settings) == [1, 4]
    assert sorted(setting.overrides["model.rank"] for setting in found.settings) == ["2", "4"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            Choice("val/auprc", ("optimizer.lr",)),
            r"no such value of the epoch that it kept; known: val/loss, val/s",
        ),
        (Choice("val/score", ("optimizer.lr",)), r"whether higher is better is not known; type one of val/loss"),
        (Choice("val/loss", ("optimizer.lx",)), r"optimizer\.lx was not swept; did you mean optimizer\.lr\?"),
        (Choice("val/loss", ("seed",)), r"folds are pooled and seeds averaged, not chosen"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(rates, choice, message):
    with pytest.raises(RequestError, match=message):
        gathered(rates, choice)


def test_the_direction_of_a_logged_metric_is_that_of_the_callback_that_watches_it(rates):
    for path in rates.glob("*/config/config.yaml"):
        callbacks = {"best": {"monitor": "val/score", "mode": "max"}}
        path.write_text(path.read_text() + yaml.safe_dump({"callbacks": callbacks}))
    (setting,) = gathered(rates, Choice("val/score", ("optimizer.lr",))).settings
    assert [one.values["optimizer.lr"] for one in setting.chosen] == ["0.1", "0.2"]


@pytest.mark.parametrize(
    ("typed", "config", "message"),
    [
        ({"loss": {"name": "mse"}}, {}, "same model and loss"),
        ({"model.name": "m"}, {"model": {"name": "m", "_target_": "other"}}, "same model and loss"),
        ({"data.normalize": True}, {}, "same data"),
    ],
)
def test_losses_of_different_kinds_are_not_compared(tmp_path, typed, config, message):
    key = next(iter(typed))
    write_run(tmp_path / "a", {key: "x"} if key != "loss" else {"loss": {"name": "nb"}}, np.full(16, 0.3),
              validation='{"val/loss": 1}')  # fmt: skip
    write_run(tmp_path / "b", typed, np.full(16, 0.4), validation='{"val/loss": 2}', config=config)
    with pytest.raises(RequestError, match=rf"choose=val/loss cannot be compared over {key}: the runs .*{message}"):
        gathered(tmp_path, Choice("val/loss", (key,)))


def test_splits_of_other_seeds_are_averaged_unit_by_unit_whatever_their_folds(tmp_path):
    """Each split seed holds every unit out once, in folds of its own."""
    rng = np.random.default_rng(0)
    value = {}
    for split in (0, 1, 2):
        order = rng.permutation(UNITS)
        for fold in (0, 1):
            units = list(order[8 * fold : 8 * fold + 8])
            typed = {"data.split.seed": split, "data.split.fold": fold}
            values = rng.random(8)
            value |= {(split, unit): one for unit, one in zip(units, values, strict=True)}
            write_run(tmp_path / f"{split}-{fold}", typed, values, fold=fold, units=units)
    found = gathered(tmp_path)
    assert (len(found.settings), found.refused) == (1, [])
    (table,) = tables_of(found.settings)
    of_units = {unit: np.mean([value[split, unit] for split in (0, 1, 2)]) for unit in UNITS}
    rows = table.best.scores.rows("m", "mse").set_index("perturbation")["value"]
    assert rows.to_dict() == pytest.approx(of_units)
    assert (table.best.setting.n_seeds, table.verdict[0].n) == (3, 16)


def test_one_fold_of_several_splits_is_scored_on_all_units_that_any_of_them_held_out(tmp_path):
    for split in (0, 1):
        units = UNITS[4 * split : 4 * split + 8]
        write_run(tmp_path / str(split), {"data.split.seed": split}, np.full(8, float(split)), units=units)
    rows = the_table(tmp_path).best.scores.rows("m", "mse").set_index("perturbation")["value"]
    assert rows.to_dict() == {**dict.fromkeys(UNITS[:4], 0.0), **dict.fromkeys(UNITS[4:8], 0.5),
                              **dict.fromkeys(UNITS[8:12], 1.0)}  # fmt: skip


def test_runs_of_an_earlier_format_are_refused_in_one_message(rates):
    path = next(rates.glob(f"*/{METRICS_FILE}"))
    path.write_text(path.read_text().replace('"format": 4,', ""))
    reasons = {refused.folder: refused.reason for refused in gathered(rates).refused}
    start = f"{path} was written before run folders had a format, and this version reads format"
    assert reasons[path.parent] == f"{start} 4: run it again."


def test_metrics_with_a_key_that_no_run_writes_are_refused(rates):
    path = next(rates.glob(f"*/{METRICS_FILE}"))
    path.write_text(path.read_text().replace('"format": 4,', '"format": 4, "extra": 1,'))
    reasons = {refused.folder: refused.reason for refused in gathered(rates).refused}
    assert reasons[path.parent].startswith(f"{path} is not what a run writes (extra:")


def test_the_order_of_runs_changes_nothing(rates):
    folders = sorted(path.parent for path in rates.glob(f"*/{METRICS_FILE}"))
    frames = [
        settings_frame(tables_of(gather(order, read_results).settings)) for order in (folders, list(reversed(folders)))
    ]
    pd.testing.assert_frame_equal(*frames)


def test_a_setting_without_baselines_has_no_verdict_and_says_so(tmp_path):
    write_run(tmp_path / "a", {}, np.full(16, 0.3))
    table = the_table(tmp_path)
    lonely = [one for one in table.verdict if one.reference != "b"]
    assert verdict_sentences("m", lonely, {}) == ["No baseline was scored with m: nothing can be said about it."]


def test_metrics_json_is_read_once_a_run(tmp_path, monkeypatch):
    write_run(tmp_path / "a", {}, np.linspace(0, 1, 16))
    read = []
    monkeypatch.setattr(
        "pertexp.runs.reading.validated", lambda kind, *rest: read.append(kind) or validated(kind, *rest)
    )
    read_results(tmp_path / "a")
    assert read == [ScreenMetrics]
