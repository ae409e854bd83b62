"""The preset families against the packages whose names they bear: frozen values, and the packages where installed."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import parity_data
import pytest
import scipy.sparse as sp
from places import ROOT
from scipy.spatial.distance import cdist

from pertexp.metrics import cell_eval, vcc2026
from pertexp.metrics.cells import Cells

ARMS = ("good", "mean", "inflated", "copies")
AREAS = ("pr_auc", "roc_auc")  # ties of float32 decide in part
THEIRS = {
    "pds_cosine": "pds_cosine",
    "direction_fidelity_yield": "de_wilcoxon_direction_fidelity_yield_raw",
    "direction_reach": "de_wilcoxon_direction_reach_raw",
    "sig_jaccard": "de_wilcoxon_sig_jaccard",
    "lfc_nmae": "de_wilcoxon_lfc_nmae",
}
FROZEN = json.loads((ROOT / "tests" / "golden" / "cell_eval.json").read_text(encoding="utf-8"))
SCREENS = parity_data.screens()
ORDER = np.argsort(parity_data.NAMES)  # the packages sort perturbations by name, and ties fall in that order
NAMES = parity_data.NAMES[ORDER]
OWN = np.array([np.flatnonzero(name == parity_data.GENES)[0] if name in parity_data.GENES else -1 for name in NAMES])


def cells_of(arm: str) -> Cells:
    counts, labels = SCREENS[arm]
    position = {name: row for row, name in enumerate(NAMES)}
    group = np.array([position.get(label, -1) for label in labels])
    ones = np.ones(len(group))
    return Cells(sp.csr_matrix(counts), group, len(NAMES), "counts", ones)


@pytest.fixture(scope="module")
def cell_eval_sides():
    return {arm: cell_eval.summarise(cells_of(arm)) for arm in ("real", *ARMS)}


@pytest.fixture(scope="module")
def vcc_sides():
    return {arm: vcc2026.summarise(cells_of(arm)) for arm in ("real", *ARMS)}


def frozen(table: dict[str, float | None]) -> np.ndarray:
    return np.array([np.nan if table.get(name) is None else table[name] for name in NAMES], dtype=float)


def vcc_view(sides, arm):
    mask = np.zeros((len(NAMES), len(parity_data.GENES)), dtype=bool)
    mask[np.flatnonzero(OWN >= 0), OWN[OWN >= 0]] = True
    return vcc2026.CountView(sides["real"], sides[arm], mask, parity_data.GENES)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", [name for name in cell_eval.CELL_EVAL if not name.endswith("edistance")])
def test_cell_eval_is_met_on_frozen_values(cell_eval_sides, arm, name):
    view = cell_eval.CellEvalView(cell_eval_sides["real"], cell_eval_sides[arm], OWN)
    ours = cell_eval.CELL_EVAL[name].function(view)
    bare = name.removeprefix("cell_eval/")
    theirs = frozen(FROZEN[arm]["cell_eval"][bare])
    if bare == "de_spearman_sig":  # one number there, contributions to it here
        ours, theirs = pd.Series(ours).mean(), theirs[0]
    np.testing.assert_allclose(ours, theirs, atol=2e-3 if bare in AREAS else 1e-6, rtol=1e-6)


def rounded_energy(arm: str) -> np.ndarray:
    """Energy distances with every distance, and their means, rounded to float32 as in cell-eval."""
    cells = cells_of(arm)
    values = cell_eval._log_normalised(cells).toarray()
    control = values[cells.of(-1)]

    def mean(a, b):
        return cdist(a.astype(np.float64), b.astype(np.float64)).astype(np.float32).mean()

    own = (values[cells.of(unit)] for unit in range(cells.n_units))
    return np.array([2 * mean(x, control) - mean(x, x) - mean(control, control) for x in own], dtype=float)


@pytest.mark.parametrize("arm", ["real", *ARMS])
def test_energy_distances_are_those_of_scipy(cell_eval_sides, arm):
    cells = cells_of(arm)
    values = cell_eval._log_normalised(cells).toarray().astype(np.float64)
    control = values[cells.of(-1)]
    own = [values[cells.of(unit)] for unit in range(cells.n_units)]
    within = cdist(control, control).mean()
    expected = [2 * cdist(x, control).mean() - cdist(x, x).mean() - within for x in own]
    np.testing.assert_allclose(cell_eval_sides[arm].e_distance, expected, rtol=1e-6)  # inner products in float32


@pytest.mark.parametrize("arm", ["good", "mean", "inflated"])
def test_their_energy_correlation_is_ours_but_for_float32(cell_eval_sides, arm):
    """To 1e-6, or to what rounding alone moves it, as where the arm's distances are all alike."""
    theirs = frozen(FROZEN[arm]["cell_eval"]["pearson_edistance"])[0]
    view = cell_eval.CellEvalView(cell_eval_sides["real"], cell_eval_sides[arm], OWN)
    ours = cell_eval.CELL_EVAL["cell_eval/pearson_edistance"].function(view).mean()
    rounding = abs(np.corrcoef(rounded_energy("real"), rounded_energy(arm))[0, 1] - ours)
    assert abs(ours - theirs) < max(1e-6, 2 * rounding)
    assert rounding < 1e-6 or arm == "mean"


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", list(THEIRS))
def test_cell_eval2_is_met_on_frozen_values(vcc_sides, arm, name):
    ours = vcc2026.VCC2026[f"vcc2026/{name}"].function(vcc_view(vcc_sides, arm))
    theirs = frozen(FROZEN[arm]["vcc2026"]["per_perturbation"].get(THEIRS[name], {}))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("arm", ARMS)
def test_the_unbiased_error_is_met_with_its_jackknife_terms(vcc_sides, arm):
    ours = vcc2026.expr_mse_unbiased_capped_norm(vcc_view(vcc_sides, arm))
    table = FROZEN[arm]["vcc2026"]["per_perturbation"]
    theirs = frozen(table["expr_mse_unbiased_capped"]) / frozen(table["expr_distance_unbiased"]).mean()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    total = {row["metric"]: row["mean"] for row in FROZEN[arm]["vcc2026"]["aggregate"]}
    assert ours.mean() == pytest.approx(total["expr_mse_unbiased_capped_norm"], rel=1e-9)


@pytest.mark.parametrize(("name", "metric"), [("l1", "cityblock"), ("l2", "euclidean"), ("cosine", "cosine")])
def test_the_own_gene_takes_no_part_in_discrimination(name, metric):
    """Deleted for every candidate in turn, as cell-eval does; own genes fall and rise, and dwarf the others."""
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(size=(2, 9, 12))
    own = np.array([3, 5, -1, 0, 11, 2, 2, 7, 9])
    rows = np.flatnonzero(own >= 0)
    true[rows, own[rows]] = 9 * rng.normal(size=rows.size)
    predicted[rows, own[rows]] = 9 * rng.normal(size=rows.size)
    expected = []
    for row, gene in enumerate(own):
        keep = np.arange(12) != gene
        distance = cdist(predicted[row : row + 1, keep], true[:, keep], metric)[0]
        expected.append(1 - (distance < distance[row]).sum() / 9)
    view = cell_eval.CellEvalView(SimpleNamespace(effect=true), SimpleNamespace(effect=predicted), own)
    found = cell_eval.CELL_EVAL[f"cell_eval/discrimination_score_{name}"].function(view)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert 0 < found.min() < found.max()
