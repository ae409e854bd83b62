"""Profiles with a known effect, as the metrics of `core` see them."""

import numpy as np

from pertexp.metrics.core import CORE, Scored

N_GENES = 60


def view(n=12, genes=N_GENES, contexts=2, folds=1, seed=0, noise=0.5):
    """n perturbations in every context; perturbation i targets gene i."""
    rng = np.random.default_rng(seed)
    control = np.repeat(rng.normal(3.0, 1.0, size=(contexts, genes)), n, axis=0)
    effect = rng.normal(size=control.shape) + 0.5 * rng.normal(size=genes)
    own = np.tile(np.eye(n, genes, dtype=bool), (contexts, 1))
    de_score, de_fdr = np.abs(effect) * 5, np.where(np.abs(effect) > 1.0, 0.01, 0.5)
    return Scored(
        prediction=control + effect + noise * rng.normal(size=control.shape),
        truth=control + effect,
        control=control,
        held_out_control=control,
        shared_control=control,
        train_mean=control + rng.normal(size=genes),
        de_score=de_score,
        de_fdr=de_fdr,
        shared_de_score=de_score,
        shared_de_fdr=de_fdr,
        rest_score=np.abs(effect + rng.normal(size=control.shape)),
        context=np.repeat(np.arange(contexts), n),
        fold=np.tile(np.arange(n) % folds, contexts),
        own_target=own,
        panel_target=own.any(axis=0),
        counted=np.ones_like(own),
    )


def values(name, scored):
    return CORE[name].function(scored)
