"""Speed and accuracy of dispersion estimates: pertexp, PyDESeq2 and statsmodels, one run, the same counts.

Run as `python benchmarks/dispersion.py [--repeats 5]`. Run with
OMP_NUM_THREADS=1 for one thread each. All are given the same size factors.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy.sparse as sp
import statsmodels.api as sm
from pydeseq2.dds import DeseqDataSet
from pydeseq2.default_inference import DefaultInference

from pertexp.nn.dispersion import estimate_dispersion

GENES, CELLS, ORACLE_GENES = 300, 4340, 30


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw counts `[N, G]`, size factors `[N]` and the dispersions `[G]` that made them."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(0, 0.4, CELLS))
    mean = np.exp(rng.uniform(np.log(0.05), np.log(20), GENES))
    theta = 2 * mean**0.3 * np.exp(rng.normal(0, 1, GENES))
    rate = rng.gamma(theta, size=(CELLS, GENES)) * (mean / theta) * size[:, None]
    return rng.poisson(rate), size, theta


def pertexp_fit(counts: sp.csr_matrix, size: np.ndarray) -> np.ndarray:
    return estimate_dispersion(counts, size).theta


def pydeseq2_fit(counts: np.ndarray, size: np.ndarray) -> np.ndarray:
    names = [f"cell{i}" for i in range(len(counts))]
    frame = pd.DataFrame(counts, index=names)
    metadata = pd.DataFrame({"condition": "control"}, index=names)
    inference = DefaultInference(n_cpus=1)
    data = DeseqDataSet(counts=frame, metadata=metadata, design="~1", inference=inference, quiet=True)
    data.fit_size_factors(fit_type="poscounts")
    data.obs["size_factors"] = size
    data.fit_genewise_dispersions()
    data.fit_dispersion_trend()
    data.fit_dispersion_prior()
    data.fit_MAP_dispersions()
    theta: np.ndarray = 1 / data.var["dispersions"].to_numpy()
    return theta


def statsmodels_fit(counts: np.ndarray, size: np.ndarray) -> np.ndarray:
    ones, offset = np.ones((len(counts), 1)), np.log(size)
    fits = (sm.NegativeBinomial(y, ones, offset=offset).fit(disp=0) for y in counts.T)
    return np.array([1 / max(fit.params[-1], 1e-8) for fit in fits])


def best_of(repeats: int, fit: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Shortest of several runs in seconds, and the result."""
    seconds, result = np.inf, np.empty(0)
    for _ in range(repeats):
        start = time.perf_counter()
        result = fit()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, result


def speed(name: str, rate: float, reference: float) -> None:
    """Print millions of cells × genes a second, and the ratio to PyDESeq2."""
    print(f"{name:12s} {rate / 1e6:8.2f} M cell·genes/s  {rate / reference:6.1f} x PyDESeq2")


def accuracy(name: str, theta: np.ndarray, truth: np.ndarray) -> None:
    """Print the error of log theta against what was planted."""
    error = np.log(theta) - np.log(truth)
    rmse, median = np.sqrt(np.mean(error**2)), np.exp(np.median(error))
    print(f"{name:12s} RMSE log theta {rmse:.3f}  median ratio {median:.3f}  ({len(theta)} genes)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore")
    counts, size, truth = planted()
    sparse = sp.csr_matrix(counts)
    chosen = np.arange(0, GENES, GENES // ORACLE_GENES)
    ours, theta = best_of(repeats, lambda: pertexp_fit(sparse, size))
    theirs, deseq = best_of(min(repeats, 3), lambda: pydeseq2_fit(counts, size))
    exact, oracle = best_of(1, lambda: statsmodels_fit(counts[:, chosen], size))
    reference = counts.size / theirs
    speed("pertexp", counts.size / ours, reference)
    speed("PyDESeq2", reference, reference)
    speed("statsmodels", CELLS * len(chosen) / exact, reference)
    for genes in (np.arange(GENES), chosen):
        accuracy("pertexp", theta[genes], truth[genes])
        accuracy("PyDESeq2", deseq[genes], truth[genes])
    accuracy("statsmodels", oracle, truth[chosen])


if __name__ == "__main__":
    main()
