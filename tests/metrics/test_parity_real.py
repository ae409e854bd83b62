"""The preset families on real cells, beside the packages themselves, where both are at hand (the check extra)."""

import importlib.util
import logging

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from places import ROOT

from pertexp.metrics import cell_eval, vcc2026
from pertexp.metrics.cells import Cells
from pertexp.metrics.differential import wilcoxon

CHOSEN = ("IFNGR1", "IRF1", "JAK2", "SMAD4", "STAT1", "CD86")
AREAS = ("pr_auc", "roc_auc")


@pytest.fixture(scope="module")
def halves(data_dir) -> dict[str, anndata.AnnData]:
    """Two halves of the cells of six knock-outs of Papalexi, and 400 control cells on both sides."""
    found = anndata.read_h5ad(data_dir / "screens" / "papalexi21_thp1_sceptredata.h5ad")
    label = found.obs["perturbation"].astype(str).to_numpy()
    rng = np.random.RandomState(0)
    rows: dict[str, list[np.ndarray]] = {"real": [], "pred": []}
    for name in CHOSEN:
        own = rng.permutation(np.flatnonzero(label == name))[:240]
        rows["real"].append(own[::2])
        rows["pred"].append(own[1::2])
    control = rng.permutation(np.flatnonzero(label == "non-targeting"))[:400]
    out = {}
    for side, parts in rows.items():
        kept = np.concatenate([*parts, control])
        counts = sp.csr_matrix(found.X[kept], dtype=np.float32)
        obs = pd.DataFrame({"target": pd.Categorical(label[kept])}, index=[f"cell{i}" for i in range(kept.size)])
        out[side] = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=found.var_names.astype(str)))
    return out


@pytest.fixture(scope="module")
def theirs(halves):
    pytest.importorskip("cell_eval", reason="install the check extra")
    pytest.importorskip("cell_eval2", reason="install the check extra")
    place = ROOT / "benchmarks" / "peers" / "cell_eval" / "golden.py"
    spec = importlib.util.spec_from_file_location("golden", place)
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    logging.disable(logging.WARNING)
    try:
        return {
            "cell_eval": golden.by_cell_eval(halves["pred"].copy(), halves["real"].copy(), "non-targeting"),
            "vcc2026": golden.by_cell_eval2(halves["pred"].copy(), halves["real"].copy())["per_perturbation"],
        }
    finally:
        logging.disable(logging.NOTSET)


def cells_of(adata: anndata.AnnData) -> Cells:
    group = pd.Index(sorted(CHOSEN)).get_indexer(adata.obs["target"].astype(str))
    return Cells(adata.X, group, len(CHOSEN), "counts", np.ones(adata.n_obs))


def frozen(table: dict[str, float | None]) -> np.ndarray:
    return np.array([np.nan if table.get(name) is None else table[name] for name in sorted(CHOSEN)], dtype=float)


def own_of(adata: anndata.AnnData) -> np.ndarray:
    return pd.Index(adata.var_names).get_indexer(sorted(CHOSEN))


@pytest.mark.slow
def test_cell_eval_is_met_on_real_cells(halves, theirs):
    sides = {name: cell_eval.summarise(cells_of(adata)) for name, adata in halves.items()}
    view = cell_eval.CellEvalView(sides["real"], sides["pred"], own_of(halves["real"]))
    for name, metric in cell_eval.CELL_EVAL.items():
        bare = name.removeprefix("cell_eval/")
        ours, expected = metric.function(view), frozen(theirs["cell_eval"][bare])
        if bare in ("pearson_edistance", "de_spearman_sig"):
            ours, expected = pd.Series(ours).mean(), expected[0]
        tolerance = 2e-3 if bare in AREAS else 1e-5 if bare == "pearson_edistance" else 1e-6
        np.testing.assert_allclose(ours, expected, atol=tolerance, err_msg=name)


@pytest.mark.slow
def test_cell_eval2_is_met_on_real_cells(halves, theirs):
    sides = {name: vcc2026.summarise(cells_of(adata)) for name, adata in halves.items()}
    own = np.zeros((len(CHOSEN), halves["real"].n_vars), dtype=bool)
    places = own_of(halves["real"])
    own[np.flatnonzero(places >= 0), places[places >= 0]] = True
    view = vcc2026.CountView(sides["real"], sides["pred"], own, np.array(halves["real"].var_names))
    names = {
        "pds_cosine": "pds_cosine",
        "direction_fidelity_yield": "de_wilcoxon_direction_fidelity_yield_raw",
        "direction_reach": "de_wilcoxon_direction_reach_raw",
        "sig_jaccard": "de_wilcoxon_sig_jaccard",
        "lfc_nmae": "de_wilcoxon_lfc_nmae",
    }
    for ours, their_name in names.items():
        found = vcc2026.VCC2026[f"vcc2026/{ours}"].function(view)
        np.testing.assert_allclose(found, frozen(theirs["vcc2026"][their_name]), atol=1e-6, err_msg=ours)
    scale = frozen(theirs["vcc2026"]["expr_distance_unbiased"]).mean()
    error = frozen(theirs["vcc2026"]["expr_mse_unbiased_capped"])
    assert vcc2026.mean_effect_size(sides["real"], own) == pytest.approx(scale, rel=1e-9)
    if scale > 0:
        np.testing.assert_allclose(vcc2026.expr_mse_unbiased_capped_norm(view), error / scale, rtol=1e-9)


@pytest.mark.slow
def test_wilcoxon_is_that_of_pdex_on_real_cells(halves):
    pdex = pytest.importorskip("pdex", reason="install the check extra")
    cells = cells_of(halves["real"])
    options = {"mode": "ref", "reference": "non-targeting", "groupby": "target", "is_log1p": False, "threads": 1}
    table = pdex.pdex(halves["real"], **options)
    wide = table.to_pandas().pivot(index="target", columns="feature", values="p_value")
    expected = wide.loc[sorted(CHOSEN), list(halves["real"].var_names)].to_numpy()
    np.testing.assert_allclose(wilcoxon(cells, cells.expression), expected, rtol=1e-4, atol=1e-12)
