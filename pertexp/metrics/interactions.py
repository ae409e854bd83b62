"""Genetic interactions of a pair: how the effect of the double follows from those of its singles.

The double is fitted as c1·first + c2·second over genes (Norman et al. 2019; scores as in GEARS, Roohani et al. 2023):
c1 = c2 = 1 is additive, a larger magnitude synergy, a smaller one suppression or redundancy, a poor fit neomorphism.
"""

import numpy as np

from pertexp.config.errors import DataError

MOST_PAIRS = 100_000
STEPS = 1000


def interaction_scores(first: np.ndarray, second: np.ndarray, double: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Scores of a pair from three effects `[G]` (differences from control).

    `c1`, `c2` are the robust coefficients, `mag` = √(c1² + c2²), `corr_fit` the correlation of the fit with the double,
    `dominance` = |log10(c1/c2)|; `dcor` is the distance correlation of both singles with the double, `dcor_singles`
    of one with the other, `dcor_first` and `dcor_second` of each with the double, and `eq_contr` the smaller of these
    over the larger.

    Raises
    ------
    DataError
        Where the effects differ in length, hold fewer than three genes, or are not finite.
    """
    sides = np.stack([np.asarray(side, dtype=np.float64).ravel() for side in _equal(first, second, double)])
    if sides.shape[1] < 3 or not np.isfinite(sides).all():
        raise DataError("an interaction is fitted over genes: expected three effects of three or more finite numbers.")
    first, second, double = sides
    singles = np.stack([first, second], axis=1)
    c1, c2 = theil_sen_pair(singles, double, seed)
    of_first, of_second = distance_correlation(first, double), distance_correlation(second, double)
    with np.errstate(divide="ignore", invalid="ignore"):
        dominance = float(np.abs(np.log10(c1 / c2)))
        fit = float(np.corrcoef(singles @ np.array([c1, c2]), double)[0, 1])
    return {
        "c1": c1,
        "c2": c2,
        "mag": float(np.hypot(c1, c2)),
        "dcor": distance_correlation(singles, double),
        "dcor_singles": distance_correlation(first, second),
        "dcor_first": of_first,
        "dcor_second": of_second,
        "corr_fit": fit,
        "dominance": dominance,
        "eq_contr": min(of_first, of_second) / max(of_first, of_second, np.finfo(float).tiny),
    }


def _equal(*sides: np.ndarray) -> tuple[np.ndarray, ...]:
    sizes = {np.size(side) for side in sides}
    if len(sizes) > 1:
        raise DataError(f"the effects of a pair and its double differ in length ({sorted(sizes)}): give equal genes.")
    return sides


def theil_sen_pair(x: np.ndarray, y: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Theil-Sen slopes of y `[n]` on two columns x `[n, 2]`, without intercept (Dang et al. 2008).

    The spatial median of the exact solutions of pairs of rows: of all pairs, or of 100,000 drawn where there are more.
    """
    n = y.size
    if n * (n - 1) // 2 <= MOST_PAIRS:
        i, j = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(seed)
        i = rng.integers(n, size=MOST_PAIRS)
        j = (i + rng.integers(1, n, size=MOST_PAIRS)) % n
    # The least-squares solution of least norm where two rows are parallel.
    solutions = np.einsum("pij,pj->pi", np.linalg.pinv(np.stack([x[i], x[j]], axis=1)), np.stack([y[i], y[j]], axis=1))
    c1, c2 = spatial_median(solutions)
    return float(c1), float(c2)


def spatial_median(points: np.ndarray, tolerance: float = 1e-10) -> np.ndarray:
    """Find the point of least summed distance to `points [n, d]`: modified Weiszfeld steps (Vardi & Zhang 2000)."""
    at: np.ndarray = points.mean(axis=0)
    for _ in range(STEPS):
        gap = points - at
        distance = np.linalg.norm(gap, axis=1)
        apart = distance > np.finfo(float).eps
        if not apart.any():
            return at
        weight = 1 / distance[apart]
        pull = (gap[apart] * weight[:, None]).sum(axis=0)
        strength = np.linalg.norm(pull)
        here = int((~apart).sum())
        if strength <= here:
            return at
        step = (1 - here / strength) * pull / weight.sum()
        at = at + step
        if np.linalg.norm(step) < tolerance:
            return at
    return at


def distance_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Distance correlation of paired rows, `[n]` or `[n, d]` each (Székely et al. 2007); 0 where a side is constant."""
    a, b = _centred_distances(x), _centred_distances(y)
    spread = np.sqrt((a * a).mean() * (b * b).mean())
    return float(np.sqrt(max((a * b).mean(), 0.0) / spread)) if spread > 0 else 0.0


def _centred_distances(x: np.ndarray) -> np.ndarray:
    rows = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    squared = sum((column[:, None] - column[None, :]) ** 2 for column in rows.T)
    distance = np.sqrt(squared)
    mean = distance.mean(axis=0)
    centred: np.ndarray = distance - mean[:, None] - mean[None, :] + mean.mean()
    return centred
