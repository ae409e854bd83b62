"""Scores, verdicts in words, files and the console table."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pertexp.config.errors import RequestError
from pertexp.evaluation.bootstrap import bootstrap_mean
from pertexp.evaluation.comparison import verdict
from pertexp.evaluation.screens.evaluation import ScoredScreenRun
from pertexp.evaluation.screens.families import Core
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.evaluation.screens.measuring import measure, pooled
from pertexp.evaluation.screens.scoring import Scores
from pertexp.metrics.core import CORE
from pertexp.report.screens.console import plain_text, render
from pertexp.report.sentences import verdict_sentences
from pertexp.runs.reading import read_metrics
from pertexp.runs.schema import ScreenMetrics


def measured(one):
    """The core family looks at the frame alone, so there need be no cells."""
    return measure(one, None, {"core": Core()})


def score(one, n_resamples=2000, seed=0, primary=None):
    return Scores.of(measured(one), primary, n_resamples, seed)


def frame(n=12, contexts=1, fold=0, quality=0.3, combos=False, replicate=True, genes=40, scale=1.0):
    rng = np.random.default_rng(fold)
    names = tuple(f"p{fold}_{i:02d}" + ("+q" if combos and i % 2 else "") for i in range(n))
    control = np.repeat(rng.normal(3.0, 1.0, size=(contexts, genes)), n, axis=0)
    effect = scale * (rng.normal(size=control.shape) + rng.normal(size=genes))
    noise = lambda size: scale * size * rng.normal(size=control.shape)  # noqa: E731
    mean = control + scale * rng.normal(size=genes)
    truth = control + effect
    return EvaluationFrame(
        perturbation=names * contexts,
        context=tuple(f"c{i}" for i in range(contexts) for _ in range(n)),
        fold=np.full(n * contexts, fold),
        genes=tuple(f"g{i}" for i in range(genes)),
        scale="log1p of counts per median depth",
        truth=truth,
        control=control,
        train_mean=mean,
        de_score=np.abs(effect),
        de_fdr=np.where(np.abs(effect) > scale, 0.01, 0.5),
        rest_score=np.abs(effect),
        predictions={"nbglm": truth + noise(quality), "train_mean": mean, "no_change": control},
        seen=np.tile(np.arange(n) % 2, contexts) if combos else np.zeros(n * contexts, dtype=int),
        replicate=(truth + noise(0.1), truth + noise(0.1)) if replicate else None,
    )


def scored(**kwargs):
    return score(frame(**kwargs), n_resamples=200)


def said(scores, model="nbglm", metrics=None):
    """The verdict in words."""
    return verdict_sentences(model, verdict(scores, scores.roles(model), metrics), {})


def test_every_prediction_every_metric_every_unit_has_a_row():
    scores = scored(contexts=2)
    assert len(scores.per_unit) == 5 * len(CORE) * 24
    columns = ["model", "metric", "perturbation", "context", "fold", "seen", "value"]
    assert list(scores.per_unit.columns) == columns
    assert scores.models == ("nbglm", "train_mean", "no_change", "truth", "replicate")
    assert scores.metrics == tuple(CORE)


def test_values_and_aggregates_are_those_of_the_metric_and_the_bootstrap():
    one = frame(contexts=2)
    scores = score(one, n_resamples=300, seed=5)
    for name, metric in CORE.items():
        expected = metric.function(one.scored("nbglm"))
        rows = scores.rows("nbglm", name)
        np.testing.assert_array_equal(rows["value"], expected)
        assert tuple(rows["perturbation"]) == one.perturbation
        interval = bootstrap_mean(expected, np.array(one.perturbation), 300, 5)
        summary = scores.summary("nbglm", name)
        assert tuple(summary[["mean", "low", "high", "n"]]) == (
            interval.mean,
            interval.low,
            interval.high,
            interval.n,
        )
        assert (summary["best"], summary["worst"]) == (metric.best, metric.worst)


def test_the_replicate_is_scored_half_against_half():
    one = frame()
    a, b = (half[0] for half in one.replicate)
    np.testing.assert_allclose(scored().rows("replicate", "mse")["value"], ((a - b) ** 2).mean(axis=1), rtol=1e-13)


def test_without_a_replicate_the_row_is_absent_and_the_reason_is_given():
    scores = scored(replicate=False)
    assert "replicate" not in scores.models
    assert scores.notes == ("replicate: not available, the data hold no cells to split into two halves",)
    assert "replicate: not available" in plain_text(scores, "t")


@pytest.mark.medium
def test_folds_are_pooled_unit_by_unit():
    folds = [frame(fold=0), frame(fold=1, n=4)]
    together = Scores.of(pooled([measured(one) for one in folds]), None, 50)
    for metric in CORE:
        apart = [score(one, n_resamples=50).rows("nbglm", metric)["value"] for one in folds]
        np.testing.assert_array_equal(together.rows("nbglm", metric)["value"], np.concatenate(apart))
        mean = together.summary("nbglm", metric)["mean"]
        assert mean == pytest.approx(np.concatenate(apart).mean(), rel=1e-12)


def test_the_same_seed_gives_the_same_scores():
    pd.testing.assert_frame_equal(scored().aggregate, scored().aggregate)
    other = score(frame(), n_resamples=200, seed=1).aggregate
    assert not np.allclose(other["low"], scored().aggregate["low"], atol=0)


def test_combinations_are_aggregated_by_members_seen():
    scores = scored(combos=True)
    table = scores.by_seen.query("model == 'nbglm' and metric == 'mse'")
    assert sorted(zip(table["members"], table["seen"], table["n"], strict=True)) == [(1, 0, 6), (2, 1, 6)]
    rows = scores.rows("nbglm", "mse")
    double = table.query("members == 2")["mean"].item()
    assert double == pytest.approx(rows.loc[rows["perturbation"].str.contains("+", regex=False), "value"].mean())
    assert scored().by_seen.empty


def test_a_better_model_is_said_to_beat_the_best_baseline():
    first = said(scored(), "nbglm")[0]
    assert first.startswith("nbglm beats train_mean on pearson_delta: difference +")
    assert first.endswith("over 12 perturbations.")


def test_lower_is_better_where_it_is():
    sentences = said(scored(), "nbglm", ["mse"])
    assert len(sentences) == 1
    assert sentences[0].startswith("nbglm beats no_change on mse: difference -")
    assert "nbglm is worse than" in said(scored(quality=30.0), "nbglm", ["mse"])[0]


def test_a_copy_of_the_best_baseline_cannot_be_told_apart():
    one = frame()
    copied = replace(one, predictions=one.predictions | {"nbglm": one.predictions["train_mean"]})
    sentence = said(score(copied, n_resamples=100), "nbglm", ["pearson_delta"])[0]
    assert sentence == (
        "nbglm does not beat train_mean on pearson_delta: difference +0.000 [0.000, 0.000] "
        "over 12 perturbations; the two cannot be told apart."
    )


@pytest.mark.medium
def test_the_verdict_on_pure_noise_is_rarely_a_win():
    """Two predictions of equal quality: a 95 % interval excludes zero about one time in twenty."""
    told_apart = 0
    for fold in range(60):
        one = frame(fold=fold, n=40, genes=20)
        noise = np.random.default_rng(1000 + fold).normal(size=(2, *one.truth.shape))
        rivals = {"a": one.truth + noise[0], "b": one.truth + noise[1]}
        sentence = said(score(replace(one, predictions=rivals), n_resamples=200), "a", ["pearson_delta"])[0]
        told_apart += "cannot be told apart" not in sentence
    assert told_apart <= 9


def test_the_replicate_is_averaged_over_splits():
    one = frame()
    rng = np.random.default_rng(0)
    halves = tuple(rng.normal(size=(3, *one.truth.shape)) for _ in range(2))
    found = score(replace(one, replicate=halves), n_resamples=2).rows("replicate", "mse")["value"]
    np.testing.assert_allclose(found, ((halves[0] - halves[1]) ** 2).mean(axis=(0, 2)), rtol=1e-12)


def test_of_baselines_that_tie_the_first_is_named_and_all_are_starred():
    one = frame(n=8)
    copies = {"nbglm": one.control, "train_mean": one.train_mean, "knn": one.train_mean + 1e-14}
    scores = score(replace(one, predictions=copies), n_resamples=20)
    assert "train_mean on mse" in said(scores, "nbglm", ["mse"])[0]
    starred = {line.split()[0] for line in plain_text(scores, "t").splitlines() if "*" in line}
    assert starred >= {"train_mean", "knn"}


def test_the_replicate_is_no_baseline():
    assert not any("replicate" in sentence for sentence in said(scored(quality=5.0), "nbglm"))


def test_the_primary_metric_is_named_once_and_first():
    sentences = said(score(frame(), n_resamples=200, primary="mse"), "nbglm")
    assert [" on mse:" in sentence for sentence in sentences] == [True, False, False, False]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_perturbations_decide_nothing(n):
    sentences = said(scored(n=n, quality=0.01), "nbglm")
    assert f"over {n} " in sentences[0]
    assert "too few to decide (fewer than 6)" in sentences[0]
    assert not any(word in " ".join(sentences) for word in ("beats", "is worse"))
    assert said(scored(n=6, quality=0.01), "nbglm")[0].startswith("nbglm beats")


def test_one_unit_has_no_discrimination_and_no_interval():
    scores = scored(n=1)
    sentences = said(scores, "nbglm")
    assert "intervals" not in plain_text(scores, "t").lower()
    assert sentences[-1].startswith("discrimination_cosine is not applicable here: fewer than 3 candidates")


def test_one_perturbation_in_many_contexts_is_counted_in_contexts():
    assert "over 6 contexts and folds of one perturbation" in said(scored(n=1, contexts=6), "nbglm")[0]


def test_without_baselines_nothing_is_said():
    alone = replace(frame(), predictions={"nbglm": frame().truth})
    assert said(score(alone, n_resamples=20), "nbglm") == [
        "No baseline was scored with nbglm: nothing can be said about it."
    ]


def test_unknown_names_are_refused():
    with pytest.raises(RequestError, match="'nbgl' was not scored; did you mean nbglm"):
        said(scored(), "nbgl")
    with pytest.raises(RequestError, match="'pearson' was not scored; did you mean pearson_delta"):
        said(scored(), "nbglm", ["pearson"])


def test_small_differences_keep_their_digits():
    sentence = said(scored(scale=1e-3), "nbglm", ["mse"])[0]
    assert "0.000" not in sentence
    assert "e-0" in sentence


def test_written_files_hold_the_tables_in_valid_json(tmp_path):
    one = frame(n=2, contexts=2, combos=True)
    scores = score(one, n_resamples=200)
    report = ScoredScreenRun.of("nbglm", one, scores).with_validation({"val/loss": 0.5})
    report.write(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "calibration.parquet",
        "metrics.json",
        "metrics.parquet",
        "predictions.h5ad",
    ]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "run" / "metrics.parquet"), scores.per_unit)
    text = (tmp_path / "run" / "metrics.json").read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=pytest.fail)
    assert document["scale"] == "log1p of counts per median depth"
    rows = {(row["model"], row["metric"]): row for row in document["aggregate"]}
    assert rows["nbglm", "mse"]["mean"] == scores.summary("nbglm", "mse")["mean"]
    assert rows["nbglm", "mse"]["worst"] is None
    assert rows["nbglm", "discrimination_l2"]["mean"] is None
    assert rows["nbglm", "discrimination_l2"]["n_left_out"] == 4
    assert {row["members"] for row in document["by_seen"]} == {1, 2}
    assert document["roles"] == {
        "nbglm": "model", "train_mean": "baseline", "no_change": "baseline", "truth": "truth",
        "replicate": "replicate",
    }  # fmt: skip


def without_controls(share):
    """A frame of which a share of the units has no held-out controls."""
    one = frame()
    none = np.arange(one.n_units) < share * one.n_units
    return replace(one, held_out_control=np.where(none[:, None], np.nan, one.control))


@pytest.mark.parametrize(("share", "primary"), [(0.0, "pearson_delta"), (0.9, "pearson_delta"),
                                                (1.0, "pearson_delta_shared_control")])  # fmt: skip
def test_without_held_out_controls_tables_are_ordered_by_shared_ones(share, primary):
    scores = score(without_controls(share), n_resamples=20)
    assert scores.primary == primary
    assert scores.headline[0] == primary


@pytest.mark.parametrize(("noise", "collapsed"), [(0.0, False), (6.0, True)])
def test_a_screen_whose_replicate_lives_on_the_noise_of_its_controls_is_flagged(noise, collapsed, tmp_path):
    one = frame(scale=0.5)
    off = noise * np.random.default_rng(3).normal(size=one.truth.shape[1])
    scores = score(replace(one, control=one.control + off, shared_control=one.control + off), n_resamples=20)
    assert scores.collapsed == collapsed
    assert any("noise of its control cells" in note for note in scores.notes) == collapsed
    scores.write_calibration(tmp_path, "screen")
    assert json.loads((tmp_path / "calibration.json").read_text())["collapsed"] == collapsed


def test_what_is_written_is_what_is_read(tmp_path):
    one = frame(n=2, contexts=2, combos=True)
    report = ScoredScreenRun.of("nbglm", one, score(one, n_resamples=200)).with_validation({"val/loss": 0.5})
    report.write(tmp_path)
    again = read_metrics(tmp_path, ScreenMetrics)
    assert repr(again).replace("inf", "nan") == repr(report.metrics).replace("-inf", "nan").replace("inf", "nan")
    assert again.validation == {"val/loss": 0.5}


def test_a_write_that_fails_leaves_the_old_files_and_nothing_else(tmp_path, monkeypatch):
    scored().write_units(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        scored(quality=3.0).write_units(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("n", [1, 2, 12])
def test_the_table_fits_a_hundred_columns_and_names_every_row(n, scale):
    text = plain_text(scored(n=n, scale=scale), "nbglm on a planted screen")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in text
    assert "…" not in text
    first = [line.split()[0] for line in lines if line[1:2].strip() and "[" not in line]
    order = [first.index(name) for name in ("nbglm", "train_mean", "no_change", "replicate")]
    assert order == sorted(order)


def cells(text, model):
    """Marked and unmarked numbers in the line of a model, block after block."""
    return [line.split()[1:] for line in text.splitlines() if line.split()[:1] == [model] and "." in line]


def test_the_best_value_that_is_no_ceiling_is_marked():
    text = plain_text(scored(), "t")
    assert all(cell.endswith("*") for block in cells(text, "nbglm") for cell in block[:1])
    assert not any(cell.endswith("*") for block in cells(text, "replicate") for cell in block)
    mean = scored().summary("nbglm", "pearson_delta")["mean"]
    assert f"{mean:.3f}*" in cells(text, "nbglm")[0]


def test_small_errors_are_shown_in_the_power_of_ten_of_their_header():
    scores = scored(scale=1e-3)
    text = plain_text(scores, "t")
    mean = scores.summary("no_change", "mse")["mean"]
    exponent = int(f"{mean:e}".split("e")[1])
    assert f"×1e{exponent}" in text
    assert f"{mean / 10.0**exponent:.3f}" in cells(text, "no_change")[0]


def test_the_footnotes_say_what_is_undefined_missing_and_uncertain():
    text = " ".join(plain_text(scored(n=2), "t").split())
    assert "pearson_delta, pearson_delta_shared_control, pearson_delta_top20: an effect that is zero" in text
    assert "no_change (2 units)" in text
    assert "Not applicable for 2 units (fewer than 3 candidates in one fold and context, or no control" in text
    assert "one half of the real cells predicts the other half" in text
    assert "2 unit(s): 2 perturbation(s), 1 context(s), 1 fold(s)" in text
    assert "intervals over perturbations" in text
    assert "intervals over contexts and folds" in " ".join(plain_text(scored(n=1, contexts=3), "t").split())


def test_markup_in_a_name_is_printed_as_it_is():
    one = frame()
    odd = replace(one, predictions={"[red]x": one.truth, "train_mean": one.train_mean})
    text = plain_text(score(odd, n_resamples=20), "[bold]t[/bold]")
    assert cells(text, "[red]x")
    assert text.startswith("[bold]t[/bold]")


def test_the_best_value_is_bold_on_a_terminal():
    console = Console(width=100, force_terminal=True, color_system="standard", record=True, file=io.StringIO())
    console.print(render(scored(), "t"))
    styled = console.export_text(styles=True)
    mean = scored().summary("nbglm", "pearson_delta")["mean"]
    assert f"\x1b[1m{mean:.3f}*" in styled


def test_a_baseline_without_a_value_is_not_the_best():
    scores = scored()
    table = scores.measured.per_unit.copy()
    table.loc[(table["model"] == "train_mean") & (table["metric"] == "mse"), "value"] = np.nan
    again = Scores.of(replace(scores.measured, per_unit=table), n_resamples=50)
    assert "no_change on mse" in said(again, "nbglm", ["mse"])[0]
    table.loc[(table["model"] != "nbglm") & (table["metric"] == "mse"), "value"] = np.nan
    nothing = Scores.of(replace(scores.measured, per_unit=table), n_resamples=50)
    assert said(nothing, "nbglm", ["mse"])[0].endswith(
        "has no value on mse where nbglm has one: they cannot be compared."
    )


def test_no_interval_leaves_the_range_of_its_metric():
    """Three units are few enough for Student's t to reach beyond a correlation of 1, and a difference of 2."""
    one = frame(n=3)
    half = replace(one, predictions={**one.predictions, "flipped": 2 * one.control - one.truth})
    scores = score(half, n_resamples=20)
    table = scores.aggregate[scores.aggregate["metric"].isin(["pearson_delta", "discrimination_cosine", "mse"])]
    low, high = table[["best", "worst"]].min(axis=1), table[["best", "worst"]].max(axis=1)
    assert (table["low"].dropna() >= low[table["low"].notna()]).all()
    assert (table["high"].dropna() <= high[table["high"].notna()]).all()
    gap = scores.difference("nbglm", "flipped", "pearson_delta")
    assert gap.mean > 1.8
    assert gap.high <= 2.0
