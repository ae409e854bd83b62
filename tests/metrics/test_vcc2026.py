"""The metrics of the Virtual Cell Challenge on genes laid out by hand, and where they have no value."""

import numpy as np
import pytest

from pertexp.metrics.vcc2026 import VCC2026, CountSummary, CountView, mean_effect_size, pds_cosine

GENES = np.array([f"g{number:02d}" for number in range(13)])
U, G = 4, len(GENES)


def side(fdr: dict, lfc: dict, p: dict | None = None) -> CountSummary:
    """Entries by (unit, gene): all others have an adjusted p-value of 1 and a fold change of 0.5."""
    tables = []
    for default, entries in ((1.0, fdr), (0.5, lfc), (0.2, p or {})):
        table = np.full((U, G), default)
        for place, value in entries.items():
            table[place] = value
        tables.append(table)
    nothing = np.zeros((U, G))
    return CountSummary(nothing, np.zeros(G), nothing, np.zeros(G), tables[2], tables[0], tables[1])


def value(name: str, truth: CountSummary, prediction: CountSummary, own: np.ndarray | None = None) -> list[float]:
    view = CountView(truth, prediction, np.zeros((U, G), dtype=bool) if own is None else own, GENES)
    return VCC2026[f"vcc2026/{name}"].function(view).tolist()


# Unit 0: four true genes, three of them called, one of these with the wrong sign; gene 4 is called, and its true fold
# change is 0. Unit 1: nothing on either side. Unit 2: one gene called, none true. Unit 3: one true gene, not called.
TRUTH = side(
    {(0, 0): 0.01, (0, 1): 0.01, (0, 2): 0.01, (0, 3): 0.049, (1, 0): 0.05, (3, 7): 0.01},
    {(0, 0): 1.0, (0, 1): 1.0, (0, 2): -1.0, (0, 3): -1.0, (0, 4): 0.0, (3, 7): -2.0},
)
PREDICTION = side(
    {(0, 0): 0.01, (0, 1): 0.03, (0, 2): 0.02, (0, 4): 0.01, (2, 6): 0.01},
    {(0, 0): 2.0, (0, 1): -1.0, (0, 2): -3.0, (0, 3): -0.1, (3, 7): -0.5},
)


def test_agreements_over_the_larger_number_of_genes():
    found = value("direction_fidelity_yield", TRUTH, PREDICTION)
    np.testing.assert_array_equal(found, [2 / 4, np.nan, 1.0, 0.0])


def test_shared_genes():
    assert value("sig_jaccard", TRUTH, PREDICTION) == [3 / 5, 1.0, 0.0, 0.0]


def test_reach_is_the_depth_that_stays_pure():
    """Ranked 0, 2, 1 (called, by adjusted p-value), then 3: right, right, wrong, right."""
    np.testing.assert_array_equal(value("direction_reach", TRUTH, PREDICTION), [2 / 4, np.nan, np.nan, 1.0])


def test_reach_breaks_ties_by_p_then_size_then_name():
    truth = side({(0, gene): 0.01 for gene in range(4)}, {(0, gene): 1.0 for gene in range(4)})
    fdr = {(0, gene): 0.01 for gene in range(4)}
    wrong = {(0, 0): -1.0, (0, 1): 1.0, (0, 2): 1.0, (0, 3): 1.0}
    assert value("direction_reach", truth, side(fdr, wrong, {(0, 0): 0.3}))[0] == 3 / 4  # a larger p: the last
    assert value("direction_reach", truth, side(fdr, {**wrong, (0, 0): -0.9}))[0] == 3 / 4  # a smaller change: the last
    assert value("direction_reach", truth, side(fdr, wrong))[0] == 0.0  # by name: the first
    assert value("direction_reach", truth, side(fdr, {**wrong, (0, 0): 1.0, (0, 3): -1.0}))[0] == 3 / 4


def test_own_targets_are_left_out():
    own = np.zeros((U, G), dtype=bool)
    own[0, :2] = own[2, 6] = own[3, 7] = True
    assert value("sig_jaccard", TRUTH, PREDICTION, own) == [1 / 3, 1.0, 1.0, 1.0]
    found = value("direction_fidelity_yield", TRUTH, PREDICTION, own)
    np.testing.assert_array_equal(found, [1 / 2, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(value("direction_reach", TRUTH, PREDICTION, own), [1.0, np.nan, np.nan, np.nan])


def test_a_gene_that_was_not_tested_is_not_held_against_the_prediction():
    untested = side({(0, 0): 0.01, (0, 2): 0.01}, {(0, 2): -1.0}, {(0, 0): np.nan})
    assert value("direction_fidelity_yield", TRUTH, untested)[0] == 1 / 4


def test_the_error_of_fold_changes_needs_ten_genes():
    fdr = {(unit, gene): 0.01 for unit, n in ((0, 10), (1, 9), (2, 11)) for gene in range(n)}
    truth = side(fdr, {**dict.fromkeys(fdr, 2.0), (2, 0): np.inf})
    prediction = side({}, {**dict.fromkeys(fdr, 3.0), (0, 1): -np.inf}, {(0, 0): np.nan})
    found = value("lfc_nmae", truth, prediction)
    np.testing.assert_allclose(found, [(8 * 1 + 2 * 2) / 20, np.nan, 10 / 20, np.nan])
    flat = side(fdr, dict.fromkeys(fdr, 0.0))
    assert np.isnan(value("lfc_nmae", flat, prediction)).all()


def profiles(bulk: np.ndarray, control: np.ndarray, jackknife: float, of_control: float = 0.0) -> CountSummary:
    unused = np.empty(0)
    variance = np.full_like(bulk, jackknife)
    return CountSummary(bulk, control, variance, np.full_like(control, of_control), unused, unused, unused)


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    own = np.zeros((5, 8), dtype=bool)
    own[np.arange(5), np.arange(5)] = True
    return rng.normal(size=(5, 8)), rng.normal(size=(5, 8)), rng.normal(size=8), own


@pytest.mark.parametrize("claim", [0.0, 0.01, 0.02, 50.0])
def test_the_unbiased_error_by_its_formula(claim):
    true, predicted, control, own = drawn()
    truth, prediction = profiles(true, control, 0.02, 0.03), profiles(predicted, control, claim)
    view = CountView(truth, prediction, own, GENES[:8])
    sampling, claimed = 8 * 0.02, 8 * min(claim, 0.02)
    use = ~own
    weight = use / 7
    mean = (weight * predicted).sum(axis=0) / weight.sum(axis=0)
    spread, claims = (weight * (predicted - mean) ** 2).sum(), 5 * claimed / 7
    share = min(1.0, spread / claims) if claims else 1.0
    error = ((predicted - true) ** 2 * use).sum(axis=1) - share * claimed - sampling
    scale = np.mean((((true - control) ** 2 * use).sum(axis=1) - sampling - 8 * 0.03) / 7)
    assert mean_effect_size(truth, own) == pytest.approx(scale)
    found = VCC2026["vcc2026/expr_mse_unbiased_capped_norm"].function(view)
    np.testing.assert_allclose(found, error / 7 / scale, rtol=1e-12)


def test_a_prediction_without_spread_may_claim_none():
    """All perturbations alike: what it claims for its own sampling is scaled to nothing."""
    true, _, control, own = drawn()
    alike = profiles(np.tile(true[0], (5, 1)), control, 0.02)
    view = CountView(profiles(true, control, 0.02), alike, own, GENES[:8], effect_size=2.0)
    error = ((true[0] - true) ** 2 * ~own).sum(axis=1) - 8 * 0.02
    np.testing.assert_allclose(
        VCC2026["vcc2026/expr_mse_unbiased_capped_norm"].function(view), error / 7 / 2, rtol=1e-9
    )


def test_no_effect_beyond_sampling_leaves_no_scale():
    true, predicted, control, own = drawn()
    view = CountView(profiles(true, control, 9.0), profiles(predicted, control, 0.0), own, GENES[:8])
    assert np.isnan(VCC2026["vcc2026/expr_mse_unbiased_capped_norm"].function(view)).all()


def test_discrimination_is_the_rank_among_all_truths():
    true, predicted, control, own = drawn()
    own[3, 3] = own[4, 4] = False
    view = CountView(profiles(true, control, 0.0), profiles(predicted, control, 0.0), own, GENES[:8])
    unit = [(rows - control)[:, 3:] for rows in (predicted, true)]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in unit]
    distance = 1 - unit[0] @ unit[1].T
    np.testing.assert_allclose(pds_cosine(view), 1 - (distance < np.diagonal(distance)[:, None]).sum(axis=1) / 4)
    still = CountView(view.truth, profiles(np.tile(control, (5, 1)), control, 0.0), own, GENES[:8])
    assert pds_cosine(still).tolist() == [0.5] * 5  # every distance ties
    alone = CountView(profiles(true[:1], control, 0.0), profiles(predicted[:1], control, 0.0), own[:1], GENES[:8])
    assert np.isnan(pds_cosine(alone)).all()
