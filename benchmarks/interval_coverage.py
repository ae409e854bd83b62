"""Coverage of 95 % intervals at few units: rules for a mean, then what pertexp's own intervals cover.

Run as `OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py [--simulations 3000]`. Every cell of the first table is
the percentage of simulated sets of n values whose interval holds the planted mean and, in brackets, the median width in
standard errors. All rules but BCa see the same 2,000 resamples. A percentage has a standard error of 0.4 at 3,000.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, t

from pertexp.evaluation.bootstrap import ClusterBootstrap, bootstrap_mean, bootstrap_median
from pertexp.metrics.pairs import ScoredPairs, auprc

RESAMPLES, LEVEL = 2000, 0.95
TAILS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
UNITS, CHROMOSOMES, PAIRS_EACH = (3, 4, 5, 6, 7, 8, 12, 30), (6, 7, 8, 12, 23), 40
Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Planted:
    """Values of a known mean: how to draw `[S, n]` of them, and the mean."""

    draw: Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
    mean: float


PLANTED = {
    "normal": Planted(lambda rng, shape: rng.normal(size=shape), 0.0),
    "lognormal, σ = 0.75": Planted(lambda rng, shape: rng.lognormal(0, 0.75, shape), float(np.exp(0.75**2 / 2))),
    "lognormal, σ = 1": Planted(lambda rng, shape: rng.lognormal(0, 1, shape), float(np.exp(0.5))),
    "bounded skewed: Beta(1, 4)": Planted(lambda rng, shape: rng.beta(1, 4, shape), 0.2),
    "bounded skewed: Beta(½, 2)": Planted(lambda rng, shape: rng.beta(0.5, 2, shape), 0.2),
    "60 % tied at 0, else normal": Planted(lambda rng, shape: rng.normal(size=shape) * (rng.random(shape) < 0.4), 0.0),
    "50 % tied at 0, else exponential": Planted(
        lambda rng, shape: rng.exponential(size=shape) * (rng.random(shape) < 0.5), 0.5
    ),
}


def standard_error(values: np.ndarray) -> np.ndarray:
    error: np.ndarray = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    return error


def drawn(n: int) -> np.ndarray:
    """How often each of n values is drawn, `[R, n]`: the resamples of pertexp."""
    return np.concatenate(list(ClusterBootstrap(np.arange(n), RESAMPLES).counts())).astype(float)


def percentile(values: np.ndarray) -> Ends:
    low, high = np.quantile(values @ drawn(values.shape[1]).T / values.shape[1], TAILS, axis=1)
    return low, high


def bca(values: np.ndarray) -> Ends:
    rng = np.random.default_rng(0)
    found = bootstrap((values,), np.mean, axis=1, n_resamples=RESAMPLES, batch=200, method="BCa", rng=rng)
    return np.asarray(found.confidence_interval.low), np.asarray(found.confidence_interval.high)


def student(values: np.ndarray) -> Ends:
    half = t.ppf(TAILS[1], values.shape[1] - 1) * standard_error(values)
    return values.mean(axis=1) - half, values.mean(axis=1) + half


def bootstrap_t(values: np.ndarray) -> Ends:
    """Studentise at every n; resamples without a spread are left out."""
    n = values.shape[1]
    mean, counts = values.mean(axis=1), drawn(n)
    away = values - mean[:, None]
    moved, squares = away @ counts.T / n, away**2 @ counts.T / n
    variance = squares - moved**2
    flat = variance <= 1e-12 * squares
    ratios = np.where(flat, np.nan, moved / np.sqrt(np.where(flat, 1, variance) / (n - 1)))
    ratios[np.isnan(ratios).all(axis=1)] = 0  # all values are equal
    low, high = np.nanquantile(ratios, TAILS, axis=1)
    error = standard_error(values)
    return mean - high * error, mean - low * error


def pertexp_mean(values: np.ndarray) -> Ends:
    found = [bootstrap_mean(row, np.arange(len(row)), RESAMPLES) for row in values]
    return np.array([one.low for one in found]), np.array([one.high for one in found])


RULES = {
    "percentile": percentile,
    "BCa": bca,
    "Student t": student,
    "bootstrap-t": bootstrap_t,
    "pertexp": pertexp_mean,
}


def cell(rule: Callable[[np.ndarray], Ends], values: np.ndarray, mean: float) -> str:
    """Percentage of rows that hold the mean, and the median width in standard errors."""
    parts = [rule(part) for part in np.array_split(values, max(1, len(values) // 1000))]
    low, high = (np.concatenate(ends) for ends in zip(*parts, strict=True))
    error = standard_error(values)
    varied = error > 0
    width = np.nanmedian((high - low)[varied] / error[varied])
    return f"{100 * np.mean((low <= mean) & (mean <= high)):.1f} ({width:.1f})"


def means(simulations: int) -> None:
    """Print the table of rules."""
    print("| values | n |", " | ".join(RULES), "|")
    print("|---" * (2 + len(RULES)) + "|")
    for name, planted in PLANTED.items():
        for n in UNITS:
            values = planted.draw(np.random.default_rng(n), (simulations, n))
            print(
                f"| {name} | {n} |", *(f"{cell(rule, values, planted.mean)} |" for rule in RULES.values()), flush=True
            )


def unequal(rng: np.random.Generator, n: int) -> tuple[float, float]:
    """Interval of the mean, which is 0, of units in n clusters of 1 to 5 that share half of their variance."""
    cluster = np.repeat(np.arange(n), 1 + np.arange(n) % 5)
    found = bootstrap_mean(rng.normal(size=n)[cluster] + rng.normal(size=cluster.size), cluster, RESAMPLES)
    return found.low, found.high


def median(rng: np.random.Generator, n: int) -> tuple[float, float]:
    """Interval of the median, which is 0, of n normal values."""
    found = bootstrap_median(rng.normal(size=n), np.arange(n), RESAMPLES)
    return found.low, found.high


def pairs(rng: np.random.Generator, chromosomes: int) -> tuple[np.ndarray, ScoredPairs]:
    """Chromosome of every pair, and the pairs: each chromosome has a prevalence and a skill of its own."""
    chromosome = np.repeat(np.arange(chromosomes), PAIRS_EACH)
    rate = 1 / (1 + np.exp(1 - rng.normal(0, 0.8, chromosomes)))
    label = (rng.random(chromosome.size) < rate[chromosome]).astype(int)
    said = rng.normal(size=label.size) + rng.normal(1.2, 0.6, chromosomes)[chromosome] * label
    return chromosome, ScoredPairs(1 / (1 + np.exp(-said)), label)


def ranking(rng: np.random.Generator, n: int) -> tuple[float, float]:
    """Interval of AUPRC over n chromosomes."""
    chromosome, view = pairs(rng, n)
    own = ClusterBootstrap(chromosome, RESAMPLES)
    drawn = [auprc(ScoredPairs(view.probability, view.label, None, weight)) for weight in own.weights()]
    return own.interval(np.concatenate(drawn))


def others(simulations: int) -> None:
    """Print what intervals over clusters, of medians, and of AUPRC cover."""
    truth = float(auprc(pairs(np.random.default_rng(0), 20_000)[1])[0])
    rows: dict[str, tuple[Callable[[np.random.Generator, int], tuple[float, float]], float]] = {
        "mean over clusters of 1 to 5 units": (unequal, 0.0),
        "median (percentile)": (median, 0.0),
        "AUPRC over chromosomes (percentile)": (ranking, truth),
    }
    print("\n| interval of | clusters | coverage |")
    print("|---|---|---|")
    for name, (interval, value) in rows.items():
        for n in CHROMOSOMES:
            rng = np.random.default_rng(n)
            ends = np.array([interval(rng, n) for _ in range(simulations)])
            print(f"| {name} | {n} | {100 * np.mean((ends[:, 0] <= value) & (value <= ends[:, 1])):.1f} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=3000)
    simulations = parser.parse_args().simulations
    means(simulations)
    others(simulations)


if __name__ == "__main__":
    main()
