"""The figure of a learning curve and the sentences beneath it."""

import math
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from pertexp.evaluation.results.learning_curve import CurvePoint, LearningCurve
from pertexp.evaluation.results.tables import ResultValue
from pertexp.report import learning_curve
from pertexp.report.learning_curve import curve_sentences, shown_curve, trained_text
from pertexp.report.tables import columns_of
from pertexp.runs.schema import Comparison, ScoreRow

REPLICATE = ResultValue(0.9, 0.85, 0.95)
GROWTH = Comparison(
    "m data.split.n_train=null", "m data.split.n_train=8", "pearson_delta", 0.02, 0.01, 0.03, 25, "better", "setting",
    over="25 perturbations",
)  # fmt: skip
VERDICT = replace(GROWTH, reference="knn", difference=-0.1, low=-0.2, high=0.05, outcome="not different",
                  basis="best baseline")  # fmt: skip


def point(*trained: int, own: float, other: float) -> CurvePoint:
    values = {"m": ResultValue(own, own - 0.1, own + 0.2), "knn": ResultValue(other), "replicate": REPLICATE}
    return CurvePoint(trained, values)


CURVE = LearningCurve(
    label="m", model="m", metric="pearson_delta",
    points=(point(4, own=0.2, other=0.4), point(8, own=0.3, other=0.4), point(16, own=0.4, other=0.4),
            point(17, 18, own=0.5, other=0.6)),
    baselines=("knn",), smaller=point(8, own=0.3, other=0.4), growth=GROWTH, verdict=VERDICT,
)  # fmt: skip
(COLUMN,) = columns_of([ScoreRow("m", "pearson_delta", 0.5, 0.4, 0.6, 25)], [])


@pytest.fixture
def axes(monkeypatch):
    """What is painted."""
    found = []

    def paint_on(name, said, paint, height):
        found.append(Figure().subplots())
        paint(found[0])
        return said

    monkeypatch.setattr(learning_curve, "drawn", paint_on)
    shown_curve(CURVE, COLUMN, "size0")
    return found[0]


def test_numbers_are_places_on_a_log_axis_and_their_labels_do_not_collide(axes):
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_transform().base == 2
    labels = {text.get_text(): at for text, at in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)}
    assert labels == {"4": 4.0, "8": 8.0, "17–18": 17.5}  # 16 would stand on 17–18


def test_rows_are_drawn_with_their_means_and_intervals(axes):
    model, baseline = axes.containers
    assert (model.get_label(), baseline.get_label()) == ("m", "knn")
    assert model.lines[0].get_ydata() == pytest.approx([0.2, 0.3, 0.4, 0.5])
    (bars,) = model.lines[2]
    assert [tuple(ends[:, 1]) for ends in bars.get_segments()] == [
        pytest.approx((mean - 0.1, mean + 0.2)) for mean in (0.2, 0.3, 0.4, 0.5)
    ]
    for row in (model, baseline):  # drawn side by side, less than a tenth of a doubling from their number
        apart = [abs(math.log2(x / size)) for x, size in zip(row.lines[0].get_xdata(), (4, 8, 16, 17.5), strict=True)]
        assert 0 < max(apart) < 0.1
    assert (model.lines[0].get_xdata() < baseline.lines[0].get_xdata()).all()


def test_the_replicate_is_a_line(axes):
    (line,) = [line for line in axes.lines if line.get_label() == "replicate"]
    assert set(line.get_ydata()) == {0.9}


def test_the_element_names_its_rows_and_says_what_it_shows():
    shown = shown_curve(CURVE, COLUMN, "size0")
    for words in (">training perturbations (log scale)<", ">knn<", ">replicate<", ">pearson_delta ↑<"):
        assert words in shown.svg
    assert "pearson_delta of m by number of training perturbations: 4: 0.200, 8: 0.300" in shown.svg
    assert shown.caption == "m: the model and baselines that are the best at some number; bars: 95 % intervals"
    alone = shown_curve(replace(CURVE, baselines=(), verdict=None), COLUMN, "size1")
    assert alone.caption == "m: the model; bars: 95 % intervals"


@pytest.mark.parametrize(("outcome", "said", "style"), [
    ("better", "m still gains from more training perturbations: from 8 to 17–18 training perturbations pearson_delta "
               "changes by +0.020 [0.010, 0.030] over 25 perturbations.", "better"),
    ("worse", "m loses with more training perturbations: from 8 to 17–18", "worse"),
    ("not different", "Whether m gains from more training perturbations cannot be told: from 8 to 17–18", "even"),
    ("too few units", "changes by +0.020 over 25 perturbations, too few to decide (fewer than 6); type this",
     "undecided"),
    ("mostly undefined", "cannot be told: from 8 to 17–18 training perturbations pearson_delta changes by +0.020 over "
                         "25 perturbations, too few to decide (most resamples have no value); type this", "undecided"),
    ("no value", "cannot be told", "other"),
])  # fmt: skip
def test_what_the_growth_shows_in_words(outcome, said, style):
    curve = replace(CURVE, growth=replace(GROWTH, outcome=outcome, remedy="type this"))
    growth, verdict = curve_sentences(curve)
    assert said in growth.text
    assert growth.says == style
    assert verdict.text.startswith("m data.split.n_train=null does not beat knn on pearson_delta: difference -0.100")


def test_without_a_baseline_nothing_is_said_of_one():
    assert len(curve_sentences(replace(CURVE, verdict=None))) == 1


def test_folds_that_differ_are_said():
    assert (trained_text(CURVE.points[0]), trained_text(CURVE.points[-1])) == ("4", "17–18")
