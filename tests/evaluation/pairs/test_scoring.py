"""Scores of pairs: means over lines, resamples by chromosome, paired differences, and words."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from pertexp.config.errors import DataError, RequestError
from pertexp.evaluation.comparison import compare, verdict
from pertexp.evaluation.pairs.criteria import criteria_of
from pertexp.evaluation.pairs.predictions import COLUMNS, pooled, predicted
from pertexp.evaluation.pairs.scoring import REPEAT, PairScores
from pertexp.evaluation.roles import RowRoles
from pertexp.metrics.pairs import PAIRS
from pertexp.models.protocols import Target
from pertexp.report.pairs.console import render
from pertexp.report.sentences import criterion_text, verdict_sentences
from pertexp.report.verdicts import verdict_of
from pertexp.runs import documents
from pertexp.runs.schema import Diagnostic, PairMetrics

ROLES = RowRoles("m", ("m (enhancer only)",), ("coin",), {"distance": "it would cheat"})


def table(seed=0, lines=("A", "B"), chromosomes=8, per=12, fold=0, skill=2.0) -> pd.DataFrame:
    """A model of some skill, itself masked, one that cheats, and a coin; the lines differ in prevalence."""
    rng = np.random.default_rng(seed)
    units = [
        {"cell_line": line, "enhancer": f"E{fold}_{c}_{i}", "promoter": f"P{c}", "chromosome": f"chr{c}", "fold": fold,
         "label": int(rng.random() < 0.3 + 0.3 * number)}
        for number, line in enumerate(lines) for c in range(chromosomes) for i in range(per)
    ]  # fmt: skip
    label = np.array([unit["label"] for unit in units])
    parts = []
    for name, strength in (("m", skill), ("m (enhancer only)", skill / 8), ("coin", 0.0), ("distance", 9.0)):
        probability = 1 / (1 + np.exp(-strength * (label - 0.5) - rng.normal(size=len(units))))
        called = pd.array(probability >= 0.5, dtype="boolean")
        parts.append(pd.DataFrame(units).assign(model=name, probability=probability, called=called))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


@pytest.fixture(scope="module")
def scores() -> PairScores:
    return PairScores(table(), n_resamples=200)


def said(scores: PairScores, roles: RowRoles = ROLES) -> list[str]:
    """The verdict in words."""
    return verdict_sentences(roles.model, verdict(scores, roles), roles.not_counted)


def of(frame: pd.DataFrame, model: str, **where) -> pd.DataFrame:
    own = frame[frame["model"] == model]
    for key, wanted in where.items():
        own = own[own[key] == wanted]
    return own


def test_the_value_is_the_mean_over_lines(scores):
    for metric, oracle in (("auprc", average_precision_score), ("auroc", roc_auc_score)):
        for model in scores.models:
            lines = [of(scores.predictions, model, cell_line=line) for line in "AB"]
            values = [oracle(line["label"], line["probability"]) for line in lines]
            assert scores.summary(model, metric)["mean"] == pytest.approx(np.mean(values), rel=1e-12)
            assert of(scores.by_line, model, metric=metric)["value"].tolist() == pytest.approx(values)
            whole = of(scores.predictions, model)
            assert of(scores.pooled, model, metric=metric)["value"].item() == pytest.approx(
                oracle(whole["label"], whole["probability"])
            )
    assert scores.means().loc["m", "auprc"] == pytest.approx(scores.summary("m", "auprc")["mean"], rel=1e-12)


def test_prevalence_and_size_stand_beside_every_value(scores):
    for frame in (scores.by_line, scores.by_fold, scores.pooled):
        assert (frame["n"] > 0).all()
        assert frame["prevalence"].between(0, 1).all()
    own = of(scores.predictions, "m", cell_line="B")
    assert set(scores.by_line.query("cell_line == 'B'")["prevalence"]) == {own["label"].mean()}
    assert set(scores.aggregate["prevalence"]) == {scores.by_line.query("model == 'm'")["prevalence"].unique().mean()}


def test_one_line_is_what_it_is_pooled():
    scores = PairScores(table(lines=("A",)), n_resamples=50)
    for _, row in scores.aggregate.iterrows():
        for frame in (scores.by_line, scores.pooled):
            own = of(frame, row["model"], metric=row["metric"]).iloc[0]
            assert (own["value"], own["low"], own["high"]) == pytest.approx((row["mean"], row["low"], row["high"]))


def two_folds(lines=("A", "B"), per=8) -> pd.DataFrame:
    """Two folds of chromosomes of their own; what is said in the second lies far below what is said in the first."""
    first, second = table(seed=1, lines=lines, per=per), table(seed=2, lines=lines, per=per, fold=1)
    second["chromosome"] += "b"
    second["probability"] /= 100
    return pooled([first, second])


def test_a_model_is_the_mean_over_folds_since_each_fold_has_a_model_of_its_own():
    frame = two_folds(lines=("A",))
    scores = PairScores(frame, n_resamples=20)
    for metric, oracle in (("auprc", average_precision_score), ("auroc", roc_auc_score)):
        parts = [of(frame, "m", fold=fold) for fold in (0, 1)]
        expected = [oracle(part["label"], part["probability"]) for part in parts]
        assert of(scores.by_fold, "m", metric=metric)["value"].tolist() == pytest.approx(expected, rel=1e-12)
        assert scores.summary("m", metric)["mean"] == pytest.approx(np.mean(expected), rel=1e-12)
        assert of(scores.by_line, "m", metric=metric)["value"].item() == pytest.approx(np.mean(expected), rel=1e-12)
        whole = of(frame, "m")
        joined = oracle(whole["label"], whole["probability"])
        assert of(scores.pooled, "m", metric=metric)["value"].item() == pytest.approx(joined, rel=1e-12)
        assert abs(joined - np.mean(expected)) > 0.01  # else this test shows nothing


def test_what_knows_nothing_is_at_one_half_however_base_rates_differ():
    frame = two_folds()
    frame["probability"] = frame.groupby(["model", "cell_line", "fold"])["label"].transform("mean")
    scores = PairScores(frame, n_resamples=100)
    row = scores.summary("m", "auroc")
    assert (row["mean"], row["low"], row["high"]) == (0.5, 0.5, 0.5)
    assert set(scores.by_line.query("metric == 'auroc'")["value"]) == {0.5}
    assert scores.summary("m", "auprc")["mean"] == pytest.approx(scores.summary("m", "auprc")["prevalence"], rel=1e-12)
    assert of(scores.pooled, "m", metric="auroc")["value"].item() > 0.5  # what the mean over folds is there to avoid


def test_a_fold_of_one_class_is_left_out_of_its_line_alone():
    frame = two_folds()
    frame.loc[(frame["cell_line"] == "A") & (frame["fold"] == 1), "label"] = 0
    scores = PairScores(frame, n_resamples=30)
    kept, folds = of(scores.by_line, "m", metric="auprc"), of(scores.by_fold, "m", metric="auprc")
    first = folds[(folds["cell_line"] == "A") & (folds["fold"] == 0)].iloc[0]
    assert (kept["value"].iloc[0], kept["prevalence"].iloc[0]) == (first["value"], first["prevalence"])
    row = scores.summary("m", "auprc")
    assert (row["n"], row["n_left_out"], row["n_lines"]) == (192, 64, 2)
    assert np.isfinite(row["low"])


def plain_draws(frame, model, n_resamples, seed):
    """AUPRC of resamples drawn chromosome by chromosome, rows copied, mean over folds, then lines: the slow way."""
    own = of(frame, model)
    names = np.unique(own["chromosome"])
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), n_resamples)
    values = []
    for counts in drawn:
        times = own["chromosome"].map(dict(zip(names, counts, strict=True))).to_numpy()
        again = own.iloc[np.repeat(np.arange(len(own)), times)]
        cells = {
            key: average_precision_score(cell["label"], cell["probability"])
            for key, cell in again.groupby(["cell_line", "fold"])
            if cell["label"].nunique() == 2
        }
        values.append(pd.Series(cells).groupby(level=0).mean().mean())
    return np.array(values)


@pytest.mark.parametrize(("frame", "over"), [(table(per=8), "8 chromosomes"), (two_folds(), "16 chromosomes")])
def test_intervals_are_those_of_rows_copied_by_chromosome(frame, over):
    scores = PairScores(frame, n_resamples=60, seed=3)
    model, coin = (plain_draws(frame, name, 60, 3) for name in ("m", "coin"))
    row, gap = scores.summary("m", "auprc"), scores.difference("m", "coin", "auprc")
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(model, [0.025, 0.975])), rel=1e-12)
    assert (gap.low, gap.high) == pytest.approx(tuple(np.quantile(model - coin, [0.025, 0.975])), rel=1e-12)
    assert gap.over == over


def test_intervals_leave_out_the_folds_that_a_resample_has_no_two_classes_of():
    frame = two_folds()
    rare = (frame["fold"] == 1) & (frame["cell_line"] == "A")
    frame.loc[rare, "label"] = (frame.loc[rare, "chromosome"] == "chr3b").astype(int)
    scores = PairScores(frame, n_resamples=60, seed=5)
    expected = np.quantile(plain_draws(frame, "m", 60, 5), [0.025, 0.975])
    row = scores.summary("m", "auprc")
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected), rel=1e-12)


def test_resamples_do_not_depend_on_how_many_are_held_at_once(monkeypatch):
    frame = table()
    whole = PairScores(frame, n_resamples=40).aggregate
    monkeypatch.setattr("pertexp.evaluation.bootstrap._BLOCK", 500)
    pd.testing.assert_frame_equal(PairScores(frame, n_resamples=40).aggregate, whole)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), chromosomes=st.integers(1, 9))
def test_a_resample_holds_whole_clusters_and_as_many_as_there_are(seed, chromosomes):
    scores = PairScores(of(table(seed, chromosomes=chromosomes, per=3), "m"), n_resamples=7, seed=seed)
    assert scores.by_chromosome == (chromosomes >= 6)
    weight = np.concatenate(list(scores.bootstrap.weights()))
    assert weight.shape == (7, len(scores.units))
    per_cluster = pd.DataFrame(weight.T).groupby(scores.bootstrap.cluster)
    assert (per_cluster.nunique() == 1).all(axis=None)
    assert (per_cluster.first().sum() == scores.bootstrap.n_clusters).all()


def test_few_chromosomes_are_resampled_by_pairs_and_marked_so():
    scores = PairScores(table(chromosomes=4), n_resamples=50)
    assert "over pairs" in scores.over
    assert "96 pairs" in scores.difference("m", "coin", "auprc").over
    wide = PairScores(table(chromosomes=8), n_resamples=50)
    assert wide.over == "over 8 chromosomes"


@pytest.mark.medium
def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    truth = norm.cdf(1.5 / np.sqrt(2))  # that 1.5 plus one normal value exceeds another
    held = []
    for seed in range(60):
        frame = table(seed, lines=("A",), chromosomes=20, per=15, skill=1.5)
        row = PairScores(frame[frame["model"] == "m"], n_resamples=200, seed=seed).summary("m", "auroc")
        held.append(row["low"] <= truth <= row["high"])
    assert np.mean(held) >= 0.86


@pytest.mark.parametrize("metric", PAIRS)
def test_the_order_of_rows_and_of_models_is_none(scores, metric):
    shuffled = scores.predictions.sample(frac=1, random_state=0)
    again = PairScores(shuffled, n_resamples=1)
    assert again.summary("m", metric)["mean"] == pytest.approx(scores.summary("m", metric)["mean"], rel=1e-9)


def test_a_line_of_one_class_is_left_out_and_said():
    frame = table()
    frame.loc[frame["cell_line"] == "A", "label"] = 0
    scores = PairScores(frame, n_resamples=30)
    row = scores.summary("m", "auprc")
    assert (row["n"], row["n_left_out"], row["n_lines"]) == (96, 96, 1)
    assert row["mean"] == of(scores.by_line, "m", metric="auprc", cell_line="B")["value"].item()
    assert np.isfinite(row["low"])
    assert "Not applicable for 96 pairs (the pairs have one label alone): auprc, auroc" in shown(scores)


def test_without_validation_nothing_is_called():
    frame = table().assign(called=pd.array([pd.NA] * len(table()), dtype="boolean"))
    scores = PairScores(frame, n_resamples=10)
    assert scores.aggregate.query("metric == 'f1'")["n"].tolist() == [0] * 4
    assert "f1" not in shown(scores).split("Not applicable")[0]


def shown(scores: PairScores, roles: RowRoles = ROLES, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(scores, roles, "m on pairs, fold 0"))
    return " ".join(console.export_text().split())


def test_the_table_says_who_is_who(scores):
    text = shown(scores)
    assert "192 pairs, 2 cell line(s), 1 fold(s). A: 96 pairs," in text
    assert "distance ‡" in text
    assert f"{scores.summary('m', 'auprc')['mean']:.3f}*" in text
    assert f"{scores.summary('distance', 'auprc')['mean']:.3f}*" not in text
    assert "over 8 chromosomes" in text


def test_the_table_fits_in_100_columns(scores):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(scores, ROLES, "m on pairs"))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    head = next(line for line in lines if "auprc ↑" in line)
    assert [word for word in head.split() if word != "↑"] == ["auprc", "auroc", "f1", "precision", "recall"]


def test_the_verdict_is_records_and_its_sentences_come_last(scores):
    found = verdict(scores, ROLES)
    assert [(one.reference, one.metric, one.basis, one.outcome) for one in found] == [
        ("coin", "auprc", "best baseline", "better"),
        ("coin", "auroc", "best baseline", "better"),
        ("m (enhancer only)", "auprc", "masked input", "better"),
        ("m (enhancer only)", "auroc", "masked input", "better"),
    ]
    gap = scores.difference("m", "coin", "auprc")
    assert (found[0].difference, found[0].low, found[0].high, found[0].n) == (gap.mean, gap.low, gap.high, 8)
    words = said(scores)
    assert words[0].startswith("m beats coin on auprc: difference +")
    assert words[2].startswith("m beats m (enhancer only) on auprc")
    assert words[-1] == "distance is shown and not counted: it would cheat."
    page = verdict_of("m", found, ROLES.not_counted)
    assert (page.lead.says, page.lead.text) == ("better", words[0])
    assert [one.text for one in page.same_family] == words[1:]
    reverse = RowRoles("coin", (), ("m",))
    assert verdict_of("coin", verdict(scores, reverse), {}).lead.says == "worse"


def test_a_comparison_turned_around_is_the_same_with_another_sign(scores):
    one, other = compare(scores, "m", "coin", "auprc"), compare(scores, "coin", "m", "auprc")
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert (one.outcome, other.outcome) == ("better", "worse")


def test_the_best_baseline_is_the_one_that_counts(scores):
    everyone = RowRoles("m", (), ("coin", "distance"))
    assert " is worse than distance on auprc" in said(scores, everyone)[0]
    assert said(scores, RowRoles("m"))[0].startswith("No baseline was scored with m")
    with pytest.raises(RequestError, match="'x' was not scored"):
        verdict(scores, RowRoles("x"))


def test_too_few_pairs_decide_nothing():
    frame = table(lines=("A",), chromosomes=2, per=4)
    found = verdict(PairScores(frame, n_resamples=50), ROLES)
    assert {one.outcome for one in found} == {"too few units"}
    assert "too few to decide (fewer than 6); pool lines and folds" in said(PairScores(frame, n_resamples=50))[0]
    assert verdict_of("m", found, {}).lead.says == "undecided"


def test_resamples_that_mostly_lack_a_label_decide_nothing():
    """Each line has its positives on one chromosome: a resample holds both with chance 0.63² = 0.4."""
    frame = table(chromosomes=20)
    only = frame["cell_line"].map({"A": "chr0", "B": "chr1"})
    frame["label"] = (frame["chromosome"] == only).astype(int)
    scores = PairScores(frame, n_resamples=400)
    assert np.isnan(scores.summary("m", "auprc")["low"])
    assert np.isfinite(scores.by_line["low"]).any()
    assert verdict(scores, ROLES)[0].outcome == "mostly undefined"
    assert "too few to decide (most resamples have no value)" in said(scores)[0]


def test_one_label_in_all_is_said_and_not_crashed_on():
    scores = PairScores(table().assign(label=1), n_resamples=10)
    assert said(scores)[0] == "auprc is not applicable here: the pairs have one label alone."
    metrics = PairMetrics(
        task="pairs", predicts="probability", model="m", primary="auprc", scale="probability", **scores.tables()
    )
    json.loads(documents.dumped(metrics), parse_constant=pytest.fail)


def test_runs_are_pooled_by_what_they_share():
    one, other = table(lines=("A",)), table(lines=("B",))
    joined = pooled([one, other[other["model"] != "distance"]])
    assert list(joined["model"].unique()) == ["m", "m (enhancer only)", "coin"]
    with pytest.raises(DataError, match="stand in several of the runs"):
        pooled([one, one])
    with pytest.raises(DataError, match="share no model"):
        pooled([one, other.assign(model="x")])
    with pytest.raises(DataError, match="no predictions to pool"):
        pooled([])


def test_the_roles_survive_their_document():
    document = {
        "task": "pairs", "predicts": "probability", "model": "m", "primary": "auprc", "scale": "", "aggregate": [],
    }  # fmt: skip
    metrics = PairMetrics(**document, roles=ROLES.by_name, not_counted=dict(ROLES.not_counted))
    again = documents.validated(PairMetrics, json.loads(documents.dumped(metrics)), "metrics.json")
    assert RowRoles.of_metrics(again) == ROLES
    assert ROLES.among(["m", "coin"]).names == ("m", "coin")
    assert ROLES.short("m (enhancer only)") == "enhancer only"


class Says:
    def __init__(self, values):
        self.values = values

    def predict(self, batches):
        list(batches)
        return np.array(self.values)


def batches(*rows):
    import torch

    return [{"pair": torch.tensor(part)} for part in rows]


def test_predictions_are_put_in_the_order_of_pairs():
    rows, probability = predicted(Says([0.1, 0.2, 0.3]), batches([7, 2], [5]), "m")
    assert (rows.tolist(), probability.tolist()) == ([2, 5, 7], [0.2, 0.3, 0.1])


@pytest.mark.parametrize(("values", "words"), [
    ([0.1, 0.2], "shape"), ([0.1, 0.2, np.nan], "predicts nan"), ([0.1, 0.2, 1.5], "predicts 1.5"),
])  # fmt: skip
def test_what_is_no_probability_is_refused(values, words):
    with pytest.raises(RequestError, match=words):
        predicted(Says(values), batches([0, 1], [2]), "m")


def test_criteria_pass_fail_or_are_not_measured():
    targets = [
        Target("a", 0.5, 1.0, "a at least one half"),
        Target("b", -np.inf, 0.1, "b at most 0.1"),
        Target("c", 0, 1, "c"),
        Target("d", 0, 1, "d"),
    ]
    found = criteria_of(targets, {"a": Diagnostic(0.5, 0.25, "of two"), "b": Diagnostic(0.2), "d": Diagnostic(np.nan)})
    assert [one.passed for one in found] == [True, False, None, None]
    assert criterion_text(found[0]) == "pass: a at least one half (a 0.5, chance 0.25; of two)"
    assert criterion_text(found[1]) == "fail: b at most 0.1 (b 0.2)"
    assert criterion_text(found[2]) == "not measured: c (c)"


def seeds(n=3) -> list[pd.DataFrame]:
    """The same pairs in the same order, predicted by models of several seeds."""
    first = two_folds()
    rng = np.random.default_rng(0)
    others = [first.assign(probability=np.clip(first["probability"] + rng.normal(0, 0.02, len(first)), 0, 1))
              for _ in range(n - 1)]  # fmt: skip
    return [first, *others]


def over_seeds(frames, **options) -> PairScores:
    """The scores of several seeds together."""
    return PairScores(pd.concat([one.assign(**{REPEAT: n}) for n, one in enumerate(frames)]), **options)


@pytest.mark.medium
def test_over_seeds_every_value_is_the_mean_and_intervals_share_their_resamples():
    frames = seeds()
    parts = [PairScores(frame, n_resamples=60, seed=3) for frame in frames]
    together = over_seeds(frames, n_resamples=60, seed=3)
    for metric in PAIRS:
        expected = np.mean([part.summary("m", metric)["mean"] for part in parts])
        assert together.summary("m", metric)["mean"] == pytest.approx(expected, rel=1e-12)
        assert together.means().loc["m", metric] == pytest.approx(expected, rel=1e-12)
        pooled_values = [of(part.pooled, "m", metric=metric)["value"].item() for part in parts]
        assert of(together.pooled, "m", metric=metric)["value"].item() == pytest.approx(np.mean(pooled_values))
    drawn = np.mean([plain_draws(frame, "m", 60, 3) for frame in frames], axis=0)
    row = together.summary("m", "auprc")
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), rel=1e-12)
    assert row["n"] == parts[0].summary("m", "auprc")["n"]


def test_over_equal_seeds_nothing_changes():
    frame = two_folds()
    one, twice = PairScores(frame, n_resamples=20), over_seeds([frame, frame], n_resamples=20)
    pd.testing.assert_frame_equal(twice.aggregate, one.aggregate)
    pd.testing.assert_frame_equal(twice.pooled, one.pooled)
    pd.testing.assert_frame_equal(twice.by_fold, one.by_fold)


def test_seeds_may_list_their_models_in_any_order():
    frames = seeds(2)
    turned = frames[1].sort_values("model", kind="stable", ascending=False, ignore_index=True)
    a, b = (over_seeds([frames[0], frame], n_resamples=10) for frame in (frames[1], turned))
    pd.testing.assert_frame_equal(a.aggregate, b.aggregate)


@pytest.mark.medium
def test_a_model_of_one_seed_is_compared_with_one_of_three():
    frames = seeds(3)
    own = [of(frame, "m").assign(model="three") for frame in frames]
    table = pd.concat(
        [one.assign(**{REPEAT: n}) for n, one in enumerate(own)] + [of(frames[0], "coin").assign(repeat=0)]
    )
    scores = PairScores(table, n_resamples=60, seed=3)
    drawn = np.mean([plain_draws(frame, "m", 60, 3) for frame in frames], axis=0) - plain_draws(
        frames[0], "coin", 60, 3
    )
    gap = scores.difference("three", "coin", "auprc")
    assert (gap.low, gap.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), rel=1e-12)


def test_seeds_of_other_splits_hold_pairs_in_other_folds():
    """A pair lies in fold 0 of one split and in fold 1 of another: each ranking is of its own fold and split."""
    first = two_folds(lines=("A",))
    turned = first.assign(fold=1 - first["fold"])
    expected = PairScores(first, n_resamples=20).summary("m", "auprc")
    row = over_seeds([first, turned], n_resamples=20).summary("m", "auprc")
    assert (row["mean"], row["low"], row["high"], row["n"]) == pytest.approx(
        (expected["mean"], expected["low"], expected["high"], expected["n"]), rel=1e-12
    )
