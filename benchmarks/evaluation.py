"""All metrics of all families compared with cell-eval's full profile: seconds and peak memory, on the same cells.

    OMP_NUM_THREADS=2 python benchmarks/evaluation.py

Each tool runs in a process of its own (so that peak memory is its own), on 100 perturbations × 2,000 genes × 20,000
cells, real and predicted, and scores them twice: the first time imports and compiles, as a command does, the second
does not. Reading is not counted.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from pertexp.metrics.metric import Metric

PERTURBATIONS, GENES, CELLS, CONTROLS = 100, 2000, 198, 200
CONTROL = "non-targeting"


def screen(seed: int, effect: np.ndarray, cells: int, controls: int) -> anndata.AnnData:
    """Return counts of a screen with these effects `[P, G]` on log means; about a fifth of the entries are stored."""
    base = np.random.default_rng(7).uniform(-4.5, 0.5, size=effect.shape[1])
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.repeat(np.arange(len(effect)), cells), np.full(controls, -1)])
    blocks = []
    for start in range(0, rows.size, 1000):
        own = rows[start : start + 1000]
        shift = np.where(own[:, None] >= 0, effect[own], 0.0)
        size = np.exp(rng.normal(0, 0.3, size=(own.size, 1)))
        blocks.append(sp.csr_matrix(rng.poisson(np.exp(base + shift) * size).astype(np.float32)))
    labels = [f"P{row:03d}" if row >= 0 else CONTROL for row in rows]
    obs = pd.DataFrame({"target": pd.Categorical(labels)}, index=[f"c{i}" for i in range(rows.size)])
    var = pd.DataFrame(index=[f"G{i:04d}" for i in range(effect.shape[1])])
    return anndata.AnnData(sp.vstack(blocks, format="csr"), obs=obs, var=var)


def pair(perturbations: int, genes: int, cells: int, controls: int) -> tuple[anndata.AnnData, anndata.AnnData]:
    """Return a prediction and the truth."""
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(perturbations, genes)) * (rng.uniform(size=(perturbations, genes)) < 0.1)
    guess = effect + 0.5 * rng.normal(size=effect.shape) * (effect != 0)
    return screen(1, guess, cells, controls), screen(2, effect, cells, controls)


def ours(pred: anndata.AnnData, real: anndata.AnnData) -> int:
    """Return the number of metrics: every one of every family."""
    from pertexp.metrics import cell_eval, gears, vcc2026
    from pertexp.metrics.cells import Cells

    names = np.unique(real.obs["target"].astype(str))
    names = names[names != CONTROL]
    own = np.full(names.size, -1)
    targets = np.zeros((names.size, real.n_vars), dtype=bool)

    def cells_of(adata: anndata.AnnData) -> Cells:
        group = pd.Index(names).get_indexer(adata.obs["target"].astype(str))
        depth = np.asarray(adata.X.sum(axis=1), dtype=np.float64).ravel()
        return Cells(adata.X.tocsr(), group, names.size, "counts", depth / np.median(depth))

    a, b = cells_of(real), cells_of(pred)
    genes = np.array(real.var_names)
    views: list[tuple[Any, dict[str, Metric]]] = [
        (cell_eval.CellEvalView(cell_eval.summarise(a), cell_eval.summarise(b), own), cell_eval.CELL_EVAL),
        (vcc2026.CountView(vcc2026.summarise(a), vcc2026.summarise(b), targets, genes), vcc2026.VCC2026),
        (gears.LogView(gears.summarise(a), gears.summarise(b)), gears.GEARS),
    ]
    return sum(len([metric.function(view) for metric in table.values()]) for view, table in views)


def cell_eval_alone(pred: anndata.AnnData, real: anndata.AnnData) -> int:
    """Return the number of metrics: those of cell-eval's full profile but for the clustering, which is left to it."""
    from pertexp.metrics import cell_eval
    from pertexp.metrics.cells import Cells

    names = np.unique(real.obs["target"].astype(str))
    names = names[names != CONTROL]

    def cells_of(adata: anndata.AnnData) -> Cells:
        group = pd.Index(names).get_indexer(adata.obs["target"].astype(str))
        return Cells(adata.X.tocsr(), group, names.size, "counts", np.ones(adata.n_obs))

    truth, prediction = cell_eval.summarise(cells_of(real)), cell_eval.summarise(cells_of(pred))
    view = cell_eval.CellEvalView(truth, prediction, np.full(names.size, -1))
    return len([metric.function(view) for metric in cell_eval.CELL_EVAL.values()])


def theirs(pred: anndata.AnnData, real: anndata.AnnData, skip: tuple[str, ...] = ()) -> int:
    """Return the number of metrics: cell-eval's full profile."""
    import logging

    from cell_eval import MetricsEvaluator

    logging.disable(logging.WARNING)
    judge = MetricsEvaluator(pred, real, control_pert=CONTROL, pert_col="target", outdir=tempfile.mkdtemp())
    results, _ = judge.compute(write_csv=False, break_on_error=True, skip_metrics=list(skip))
    return results.shape[1] - 1


ARMS: dict[str, Callable[[anndata.AnnData, anndata.AnnData], int]] = {
    "pertexp, cell_eval family": cell_eval_alone,
    "pertexp, cell_eval + vcc2026 + gears": ours,
    "cell-eval 0.8.2, full without clustering": lambda pred, real: theirs(pred, real, ("clustering_agreement",)),
    "cell-eval 0.8.2, full": theirs,
}


def measure(name: str) -> None:
    """Run one arm in this process, twice, and print its figures as JSON."""
    arm = ARMS[name]
    pred, real = pair(PERTURBATIONS, GENES, CELLS, CONTROLS)
    data = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(2):
        sides = pred.copy(), real.copy()
        start = time.perf_counter()
        metrics = arm(*sides)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"metrics": metrics, "seconds": seconds, "gib": peak / 2**20, "data_gib": data / 2**20}))


def main() -> None:
    """Print the table."""
    found = {}
    for name in ARMS:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), name], capture_output=True, text=True, check=True
        )
        found[name] = json.loads(done.stdout.splitlines()[-1])
    slowest = found["cell-eval 0.8.2, full"]["seconds"]
    for name, one in found.items():
        first, again = one["seconds"]
        print(
            f"{name:42s} {one['metrics']:3d} metrics; first {first:6.2f} s {slowest[0] / first:5.1f} ×; "
            f"again {again:6.2f} s {slowest[1] / again:5.1f} ×; {one['gib']:5.2f} GiB, data {one['data_gib']:.2f}"
        )


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
