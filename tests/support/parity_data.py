"""A small screen and predictions of it, from numpy's frozen legacy generator: the same numbers wherever it runs.

It needs numpy alone, so that the environment of the packages that it is scored with can import it.
"""

import numpy as np

N_GENES, N_PERTURBATIONS, CELLS, CONTROLS = 150, 14, 50, 120
CONTROL = "non-targeting"
GENES = np.array([f"G{i:03d}" for i in range(N_GENES)])
NAMES = np.array([f"G{3 * i:03d}" if i < 9 else f"X{i:03d}" for i in range(N_PERTURBATIONS)])


def counts_of(rng: np.random.RandomState, log_mean: np.ndarray, n: int) -> np.ndarray:
    """`[n, G]` negative binomial counts (θ = 3) at log-normal depths."""
    size = np.exp(rng.normal(0.0, 0.3, size=(n, 1)))
    return rng.poisson(rng.gamma(3.0, np.exp(log_mean) * size / 3.0)).astype(np.float32)


def screens() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Counts and labels: `real`, and predictions `good`, `mean`, `inflated`, `copies` (one set of cells for all)."""
    rng = np.random.RandomState(20260901)
    base = rng.uniform(-3.0, 2.0, size=N_GENES)
    shared = 0.5 * rng.normal(size=N_GENES) * (rng.uniform(size=N_GENES) < 0.3)
    own = 0.9 * rng.normal(size=(N_PERTURBATIONS, N_GENES)) * (rng.uniform(size=(N_PERTURBATIONS, N_GENES)) < 0.3)
    effect = shared + own
    for unit in range(9):
        effect[unit, 3 * unit] = -2.0
    effect[-1] = 0.0  # a perturbation that does nothing
    noise = 0.3 * rng.normal(size=effect.shape)
    arms = {
        "real": effect,
        "good": effect + noise,
        "mean": np.tile(effect.mean(axis=0), (N_PERTURBATIONS, 1)),
        "inflated": 2.5 * (effect + noise),
    }
    control = counts_of(rng, base, CONTROLS)
    out = {}
    for name, arm in arms.items():
        out[name] = _labelled([counts_of(rng, base + row, CELLS) for row in arm], control)
    once = counts_of(rng, base + shared, CELLS)
    out["copies"] = _labelled([once] * N_PERTURBATIONS, control)
    return out


def _labelled(cells: list[np.ndarray], control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.concatenate([*cells, control])
    counts[counts.sum(axis=1) == 0, 0] = 1
    return counts, np.array([*np.repeat(NAMES, CELLS), *[CONTROL] * len(control)])
