"""The tables of metrics, row by row, and which of two values is the better one."""

import numpy as np
import pytest

from pertexp.metrics.metric import Metric
from pertexp.metrics.registry import METRICS

LOW, HIGH = (0.0, np.inf), (1.0, 0.0)  # best and worst of an error, and of a share
SIGNED = (1.0, -1.0)  # of a correlation
BOUNDS = {
    "pearson_delta": SIGNED,
    "pearson_delta_mean": SIGNED,
    "pearson_delta_top20": SIGNED,
    "mse": LOW,
    "wmse": LOW,
    "discrimination_cosine": HIGH,
    "discrimination_cosine_t": HIGH,
    "de_overlap": HIGH,
    "de_direction": HIGH,
    "de_auprc": HIGH,
    "mae": LOW,
    "mse_top20": LOW,
    "discrimination_l2": HIGH,
    "discrimination_l2_t": HIGH,
    "centroid_accuracy": HIGH,
    "cell_eval/mse": LOW,
    "cell_eval/mae": LOW,
    "cell_eval/mse_delta": LOW,
    "cell_eval/mae_delta": LOW,
    "cell_eval/pearson_delta": SIGNED,
    "cell_eval/discrimination_score_l1": HIGH,
    "cell_eval/discrimination_score_l2": HIGH,
    "cell_eval/discrimination_score_cosine": HIGH,
    "cell_eval/pearson_edistance": SIGNED,
    "cell_eval/overlap_at_N": HIGH,
    "cell_eval/overlap_at_50": HIGH,
    "cell_eval/overlap_at_100": HIGH,
    "cell_eval/overlap_at_200": HIGH,
    "cell_eval/overlap_at_500": HIGH,
    "cell_eval/precision_at_N": HIGH,
    "cell_eval/precision_at_50": HIGH,
    "cell_eval/precision_at_100": HIGH,
    "cell_eval/precision_at_200": HIGH,
    "cell_eval/precision_at_500": HIGH,
    "cell_eval/de_spearman_sig": SIGNED,
    "cell_eval/de_direction_match": HIGH,
    "cell_eval/de_spearman_lfc_sig": SIGNED,
    "cell_eval/de_sig_genes_recall": HIGH,
    "cell_eval/pr_auc": HIGH,
    "cell_eval/roc_auc": HIGH,
    "vcc2026/pds_cosine": HIGH,
    "vcc2026/expr_mse_unbiased_capped_norm": LOW,
    "vcc2026/direction_fidelity_yield": HIGH,
    "vcc2026/direction_reach": HIGH,
    "vcc2026/sig_jaccard": HIGH,
    "vcc2026/lfc_nmae": LOW,
    "gears/mse_top20_non_dropout": LOW,
    "gears/pearson_delta_top20_non_dropout": SIGNED,
    "gears/normalised_mse_top20_non_dropout": LOW,
    "gears/pearson_delta": SIGNED,
    "gears/mse": LOW,
    "gears/opposite_direction_top20_non_dropout": (0.0, 1.0),
    "gears/within_one_sigma_top20_non_dropout": HIGH,
    "impact/auprc": HIGH,
    "impact/spearman": SIGNED,
    "impact/auroc": HIGH,
    "impact/spearman_t": SIGNED,
    **{f"impact/{name}_at_{k}": HIGH for name in ("precision", "overlap") for k in (20, 50, 100)},
    "auprc": HIGH,
    "auroc": HIGH,
    "f1": HIGH,
    "precision": HIGH,
    "recall": HIGH,
    "calibration_error": (0.0, 1.0),
    "brier": (0.0, 1.0),
}
# Of each effect metric of core: with shared controls, and with or without the perturbed genes.
RANKED = tuple(f"discrimination_{kind}{side}" for kind in ("cosine", "l2") for side in ("", "_t"))
AGAINST_CONTROL = ("pearson_delta_top20", *RANKED, "de_overlap", "de_direction", "de_auprc")
VARIANTS = {f"{name}_{suffix}": name for name in AGAINST_CONTROL for suffix in ("shared_control", "with_targets")}
VARIANTS |= {f"pearson_delta_{suffix}": "pearson_delta" for suffix in ("shared_control", "without_targets")}
VARIANTS |= {"pearson_delta_mean_without_targets": "pearson_delta_mean"}
HEADLINES = {
    "pearson_delta", "pearson_delta_mean", "mse", "discrimination_cosine", "cell_eval/overlap_at_N",
    "cell_eval/discrimination_score_l1", "cell_eval/mae", "vcc2026/pds_cosine",
    "vcc2026/expr_mse_unbiased_capped_norm", "vcc2026/direction_fidelity_yield", "vcc2026/direction_reach",
    "vcc2026/sig_jaccard", "vcc2026/lfc_nmae", "gears/mse_top20_non_dropout",
    "gears/pearson_delta_top20_non_dropout", "impact/auprc", "impact/spearman", "auprc",
    "auroc",
}  # fmt: skip
WITHOUT_TESTS = {
    "pearson_delta", "pearson_delta_mean", "mse", "discrimination_cosine", "discrimination_cosine_t", "mae",
    "discrimination_l2", "discrimination_l2_t", "centroid_accuracy", "cell_eval/mse", "cell_eval/mae",
    "cell_eval/mse_delta", "cell_eval/mae_delta", "cell_eval/pearson_delta", "cell_eval/discrimination_score_l1",
    "cell_eval/discrimination_score_l2", "cell_eval/discrimination_score_cosine", "cell_eval/pearson_edistance",
    "vcc2026/pds_cosine", "vcc2026/expr_mse_unbiased_capped_norm", "gears/pearson_delta", "gears/mse",
    "impact/spearman", "auprc", "auroc", "f1", "precision", "recall", "calibration_error", "brier",
}  # fmt: skip


def test_best_and_worst_of_every_metric():
    variants = {name: BOUNDS[plain] for name, plain in VARIANTS.items()}
    assert {name: (row.best, row.worst) for name, row in METRICS.items()} == BOUNDS | variants


def test_what_a_verdict_is_about_and_what_needs_tested_genes():
    assert {name for name, row in METRICS.items() if row.level == "headline"} == HEADLINES
    variants = {name for name, plain in VARIANTS.items() if plain in WITHOUT_TESTS}
    assert {name for name, row in METRICS.items() if not row.needs_de} == WITHOUT_TESTS | variants
    of_pairs = {"auprc", "auroc", "f1", "precision", "recall", "calibration_error", "brier"}
    negatives = {name: row.negative for name, row in METRICS.items() if row.negative != "train_mean"}
    of_impacts = {name for name in METRICS if name.startswith("impact/")}
    expected = dict.fromkeys(of_pairs, "prevalence") | dict.fromkeys(of_impacts, "mean_impact")
    of_means = ("pearson_delta_mean", "pearson_delta_mean_without_targets")
    assert negatives == expected | dict.fromkeys(of_means, "no_change")
    ends = {name: row.clamp for name, row in METRICS.items() if row.clamp != (-np.inf, np.inf)}
    assert ends == {"vcc2026/expr_mse_unbiased_capped_norm": (0.0, 1.0), "vcc2026/lfc_nmae": (-6.0, np.inf)}


def metric(best: float, worst: float, name: str = "own", **more) -> Metric:
    return Metric(name, lambda view: view, best, worst, "profile", **more)


@pytest.mark.parametrize(("best", "worst", "expected"), [(1.0, 0.0, [1.0, 0.5, 0.0]), (0.0, np.inf, [0.0, 0.5, 1.0])])
def test_the_better_of_two_values(best, worst, expected):
    a, b = np.array([3.0, 2.0, 0.5, np.nan, 1.0]), np.array([2.0, 2.0, 1.0, 1.0, np.nan])
    np.testing.assert_array_equal(metric(best, worst).better(a, b), [*expected, np.nan, np.nan])


def test_the_family_is_what_stands_before_the_slash():
    assert metric(1.0, 0.0).family == "core"
    assert metric(1.0, 0.0, "theirs/own").family == "theirs"
