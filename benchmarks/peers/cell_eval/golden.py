"""Freeze what cell-eval 0.8.2 and cell-eval2 0.20.0 say of the small screens of tests/support/parity_data.py.

python -m venv peer && peer/bin/pip install cell-eval==0.8.2 cell-eval2==0.20.0
peer/bin/python benchmarks/peers/cell_eval/golden.py tests/golden/cell_eval.json
"""

import importlib
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

SUPPORT = Path(__file__).resolve().parents[3] / "tests" / "support"


def screen(counts: np.ndarray, labels: np.ndarray, genes: np.ndarray) -> anndata.AnnData:
    """Return an AnnData as both packages read it."""
    obs = pd.DataFrame({"target": pd.Categorical(labels)}, index=[f"cell{i}" for i in range(len(labels))])
    return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))


def plain(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Metric, then perturbation, to value; None where there is none."""
    return {
        str(metric): {str(name): None if pd.isna(value) else float(value) for name, value in column.items()}
        for metric, column in table.items()
    }


def by_cell_eval(pred: anndata.AnnData, real: anndata.AnnData, control: str) -> dict[str, Any]:
    """Return the full profile but for the clustering, whose labels come from a random partition."""
    from cell_eval import MetricsEvaluator

    options: dict[str, Any] = {"control_pert": control, "pert_col": "target", "num_threads": 2}
    judge = MetricsEvaluator(pred, real, outdir=tempfile.mkdtemp(), **options)
    results, _ = judge.compute(write_csv=False, break_on_error=True, skip_metrics=["clustering_agreement"])
    return plain(results.to_pandas().set_index("perturbation"))


def by_cell_eval2(pred: anndata.AnnData, real: anndata.AnnData) -> dict[str, Any]:
    """Return the competition preset, per perturbation and aggregated."""
    import cell_eval2

    config = cell_eval2.EvalConfig.from_preset("vcc2026")
    long = cell_eval2.compute_metrics(pred, real, config=config)
    total = cell_eval2.aggregate_metrics(long).to_pandas()
    wide = long.to_pandas().pivot(index="perturbation", columns="metric", values="value")
    return {"per_perturbation": plain(wide), "aggregate": json.loads(total.to_json(orient="records"))}


def main(path: str) -> None:
    """Write the fixture."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    sys.path.insert(0, str(SUPPORT))
    data = importlib.import_module("parity_data")
    screens = data.screens()
    frozen = {}
    for arm in screens:
        if arm == "real":
            continue
        pred, real = (screen(screens[name][0], screens[name][1], data.GENES) for name in (arm, "real"))
        frozen[arm] = {
            "cell_eval": by_cell_eval(pred.copy(), real.copy(), data.CONTROL),
            "vcc2026": by_cell_eval2(pred, real),
        }
    Path(path).write_text(json.dumps(frozen, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
