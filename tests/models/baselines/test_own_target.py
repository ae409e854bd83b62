"""Own effects of targets against the ratios that profiles were made with."""

from dataclasses import replace

import numpy as np
import pytest
from training_profiles import CONTEXTS, GENE_NAMES, NAMES, TEST, TRAIN, profiles, units

from pertexp.data.screens.screen import members
from pertexp.models.baselines.kernel_ridge import KernelRidge
from pertexp.models.baselines.own_target import LARGEST_LOSS, OwnTarget
from pertexp.models.baselines.screens import Additive, TrainMean

COLUMN = {gene: column for column, gene in enumerate(GENE_NAMES)}
# By training unit and measured member; log ratios of 0.5, -1.5, -2, -1, -1.2, -0.8 have the mean -1.
RATIOS = {("A", 0): {"A": 0.5}, ("A", 1): {"A": -1.5}, ("C", 1): {"C": -2.0}, ("D", 1): {"D": -1.0},
          ("A+C", 0): {"A": -1.2, "C": -0.8}}  # fmt: skip
TAU = -1.0


def with_ratios(ratios):
    """Profiles whose members have these log ratios to the controls of their context."""
    training = profiles()
    values = training.values.copy()
    for row, (p, context) in enumerate(zip(TRAIN.perturbation, TRAIN.context, strict=True)):
        for gene, ratio in ratios.get((NAMES[p], context), {}).items():
            column = COLUMN[gene]
            values[row, column] = np.log1p(np.expm1(training.control[context, column]) * np.exp(ratio))
    return replace(training, values=values)


@pytest.fixture
def training():
    return with_ratios(RATIOS)


def on_own_genes(found, asked=TEST):
    """`(row, name, context, gene, column)` of each measured member."""
    for row, (p, context) in enumerate(zip(asked.perturbation, asked.context, strict=True)):
        for gene in members(NAMES[p]):
            if gene in COLUMN:
                yield row, NAMES[p], context, gene, COLUMN[gene]


def test_measured_members_are_at_control_times_tau(training):
    found, plain = (model.fit(training).predict(TEST) for model in (OwnTarget(TrainMean(), True), TrainMean()))
    own = list(on_own_genes(found))
    assert len(own) == CONTEXTS * 8  # A, A+B, A+C (twice), B+C, C, D, D+E
    for row, _, context, _, column in own:
        expected = np.expm1(training.control[context, column]) * np.exp(TAU)
        assert np.expm1(found[row, column]) == pytest.approx(expected, rel=1e-9)
        plain[row, column] = found[row, column]
    np.testing.assert_array_equal(found, plain)  # all other genes are those of the baseline


def test_what_was_trained_keeps_its_effect_and_what_was_not_gets_tau(training):
    """Additive: B+C was not trained, C was; without its training unit, C has τ beside the whole effect of B."""
    kept = np.array([NAMES[p] != "C" for p in TRAIN.perturbation])
    without = replace(training, units=TRAIN.take(kept), values=training.values[kept])
    asked = units(("B+C", 0), ("A+C", 0), ("A", 1), ("C", 1))
    found, plain = (model.fit(without).predict(asked) for model in (OwnTarget(Additive()), Additive()))
    tau = np.mean([0.5, -1.5, -1.0, -1.2, -0.8])
    column = COLUMN["C"]
    of_b = without.effects[list(without.units.perturbation).index(NAMES.index("B"))]
    for row, other in ((0, of_b[column]), (3, 0.0)):
        control = without.control[asked.context[row], column]
        expected = np.log1p(np.expm1(control) * np.exp(tau)) + other
        assert found[row, column] == pytest.approx(expected, rel=1e-9)
        plain[row, column] = found[row, column]
    np.testing.assert_array_equal(found, plain)  # A+C and A were trained


def test_of_a_combination_without_a_trained_member_each_measured_member_gets_tau(training):
    kept = np.array([NAMES[p] not in {"A", "C"} for p in TRAIN.perturbation])
    without = replace(training, units=TRAIN.take(kept), values=training.values[kept])
    asked = units(("A+C", 1))
    # A+C in context 0 is trained, so that the one in context 1 is known as well.
    found, plain = (model.fit(without).predict(asked) for model in (OwnTarget(Additive()), Additive()))
    np.testing.assert_array_equal(found, plain)
    alone = np.array([NAMES[p] in {"B", "D", "E"} for p in TRAIN.perturbation])
    without = replace(training, units=TRAIN.take(alone), values=training.values[alone])
    found = OwnTarget(Additive()).fit(without).predict(asked)
    for column in (COLUMN["A"], COLUMN["C"]):
        expected = np.log1p(np.expm1(training.control[1, column]) * np.exp(-1.0))  # that of D alone
        assert found[0, column] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("build", [TrainMean, Additive, KernelRidge])
@pytest.mark.parametrize("trained", [True, False])
def test_without_a_measured_training_target_it_is_the_baseline(training, build, trained):
    kept = np.array([NAMES[p] in {"B", "E"} for p in TRAIN.perturbation])
    without = replace(training, units=TRAIN.take(kept), values=training.values[kept])
    plain = build().fit(without).predict(TEST)
    np.testing.assert_array_equal(OwnTarget(build(), trained).fit(without).predict(TEST), plain)


def test_a_target_without_expression_in_controls_has_no_ratio(training):
    control = training.control.copy()
    control[1, COLUMN["D"]] = 1e-5
    silent = replace(training, control=control)
    found = OwnTarget(TrainMean(), True).fit(silent).predict(units(("A", 0)))[0, COLUMN["A"]]
    expected = np.expm1(control[0, COLUMN["A"]]) * np.exp(np.mean([0.5, -1.5, -2.0, -1.2, -0.8]))
    assert np.expm1(found) == pytest.approx(expected, rel=1e-9)


def test_a_target_without_a_single_count_loses_a_bounded_factor(training):
    values = training.values.copy()
    values[list(TRAIN.perturbation).index(NAMES.index("D")), COLUMN["D"]] = 0.0
    lost = replace(training, values=values)
    found = OwnTarget(TrainMean(), True).fit(lost).predict(units(("A", 0)))[0, COLUMN["A"]]
    tau = np.mean([0.5, -1.5, -2.0, -1.2, -0.8, -np.log(LARGEST_LOSS)])
    assert np.expm1(found) == pytest.approx(np.expm1(lost.control[0, COLUMN["A"]]) * np.exp(tau), rel=1e-9)


def test_fold_changes_have_differences(training):
    changes = replace(training, scale="mean_of_log2fc")
    own = [training.values[row, column] - training.control[context, column]
           for row, _, context, _, column in on_own_genes(None, TRAIN)]  # fmt: skip
    assert len(own) == 6
    found = OwnTarget(TrainMean(), True).fit(changes).predict(TEST)
    for row, _, context, _, column in on_own_genes(found):
        assert found[row, column] == pytest.approx(training.control[context, column] + np.mean(own), rel=1e-9)


def test_a_prediction_of_the_baseline_is_not_written_into(training):
    class Kept(TrainMean):
        """A baseline that hands out the same table each time."""

        def predict(self, asked):
            self.table = getattr(self, "table", None)
            self.table = super().predict(asked) if self.table is None else self.table
            return self.table

    model = OwnTarget(Kept(), True).fit(training)
    first = model.predict(TEST).copy()
    np.testing.assert_array_equal(model.predict(TEST), first)


def test_notes_are_those_of_the_baseline(tmp_path):
    assert OwnTarget(TrainMean()).notes == ()
    (note,) = OwnTarget(KernelRidge({"string": f"{tmp_path}/none.npz"})).notes
    assert note == f"without the kernel string, for there is no file {tmp_path}/none.npz"
