"""Baselines of screens: `fit` and `predict` on profiles, no network."""

from collections.abc import Callable
from typing import Literal, Self

import numpy as np

from pertexp.config.errors import RequestError
from pertexp.data.screens.design import TrainingProfiles
from pertexp.data.screens.profiles import Units
from pertexp.data.screens.screen import members
from pertexp.nn.bilinear_ridge import choose_ridge, fit_bilinear_ridge


class NoChange:
    """Every perturbation leaves the control profile of its context as it is."""

    def fit(self, training: TrainingProfiles) -> Self:
        """Keep the control profiles."""
        self._control = training.control
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` control profiles."""
        profiles: np.ndarray = self._control[units.context]
        return profiles


class TrainMean:
    """Every perturbation has the mean effect of the training perturbations, each with equal weight.

    The mean is over the unit's own context where it holds training units, else over all contexts.
    """

    def fit(self, training: TrainingProfiles) -> Self:
        """Average effects by context."""
        self._control = training.control
        self._mean = training.mean_effect
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` control plus mean effect."""
        profiles: np.ndarray = self._control[units.context] + self._mean[units.context]
        return profiles


class Additive:
    """Effects add up: a set has the effects of its members, known from training.

    The effect of a set seen in training (in the same context, else the mean over contexts) is used as it is; a
    combination not seen is the sum of its members, and a member not seen counts with the mean effect of training
    (Systema's matching mean). For single perturbations in an unseen context this is the context-transfer mean.
    """

    def fit(self, training: TrainingProfiles) -> Self:
        """Index the training effects by name and context."""
        self._training = training
        self._position = {name: index for index, name in enumerate(training.perturbations)}
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` control plus sum of effects."""
        effects = [
            self._effect(self._training.perturbations[perturbation], context)
            for perturbation, context in zip(units.perturbation.tolist(), units.context.tolist(), strict=True)
        ]
        profiles: np.ndarray = self._training.control[units.context] + np.stack(effects)
        return profiles

    def _effect(self, name: str, context: int) -> np.ndarray:
        whole = self._known(name, context)
        if whole is not None:
            return whole
        parts = [self._known(member, context) for member in members(name)]
        mean: np.ndarray = self._training.mean_effect[context]
        if all(part is None for part in parts):
            return mean
        summed: np.ndarray = np.sum([mean if part is None else part for part in parts], axis=0)
        return summed

    def _known(self, name: str, context: int) -> np.ndarray | None:
        rows = np.flatnonzero(self._training.units.perturbation == self._position.get(name, -1))
        if not rows.size:
            return None
        own = rows[self._training.units.context[rows] == context]
        known: np.ndarray = self._training.effects[own if own.size else rows].mean(axis=0)
        return known


class BilinearRidge:
    """Ahlmann-Eltze's linear model: gene embedding × kernel × perturbation embedding, in closed form.

    Effects are differences from the mean training effect of the context, so it starts from the train mean.

    Parameters
    ----------
    ridge
        λ on both sides; None chooses it on the validation perturbations. 0.1 is the published value.
    link
        `identity`: effects are differences of profiles. `log`: differences of log means, for profiles that are
        log1p of means; this is the linear limit of the NB-GLM.
    """

    def __init__(self, ridge: float | None = None, link: Literal["identity", "log"] = "identity") -> None:
        if ridge is not None and ridge < 0:
            raise RequestError(f"ridge={ridge} is negative: expected λ ≥ 0, or null to choose it on validation units.")
        self._given = ridge
        self._forward, self._back = LINKS[link]

    def fit(self, training: TrainingProfiles) -> Self:
        """Solve for K; λ is in `ridge` afterwards, chosen anew by each fit where it was not given."""
        linked = training.mapped(self._forward)
        self._mean = linked.control + linked.mean_effect
        self._genes, self._rows = training.gene_embedding, training.perturbation_embedding
        sides = [
            (values - self._mean[units.context], self._rows[units.perturbation])
            for units, values in ((linked.units, linked.values), (linked.validation_units, linked.validation_values))
        ]
        self.ridge = choose_ridge(sides[0], sides[1], self._genes) if self._given is None else self._given
        self._fit = fit_bilinear_ridge(sides[0][0], self._genes, sides[0][1], self.ridge)
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` control plus mean effect plus linear effect."""
        effect = self._fit.effect(self._genes, self._rows[units.perturbation])
        return self._back(self._mean[units.context] + effect)


SMALLEST_MEAN = 1e-4
LINKS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "identity": (lambda profile: profile, lambda linear: linear),
    "log": (
        lambda profile: np.log(np.maximum(np.expm1(profile), SMALLEST_MEAN)),
        lambda linear: np.log1p(np.exp(linear)),
    ),
}


class NearestNeighbours:
    """The mean effect of the k training perturbations nearest in the embedding (cosine), within reach of the context.

    Units of the same context are preferred where there are any; equal similarities share their weight, so that a
    perturbation without an embedding gets the train mean.
    """

    def __init__(self, k: int = 5) -> None:
        if k < 1:
            raise RequestError(f"k={k} nearest neighbours: expected at least 1.")
        self._k = k

    def fit(self, training: TrainingProfiles) -> Self:
        """Keep the training effects and unit-length embeddings."""
        self._training = training
        self._direction = unit_rows(training.perturbation_embedding)
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` control plus mean effect of the neighbours."""
        training = self._training
        similarity = self._direction[units.perturbation] @ self._direction[training.units.perturbation].T
        same = units.context[:, None] == training.units.context[None, :]
        allowed = np.where(same.any(axis=1, keepdims=True), same, True)
        weights = np.stack([
            _top_share(row, mask, self._k) for row, mask in zip(similarity, allowed, strict=True)
        ])  # fmt: skip
        profiles: np.ndarray = training.control[units.context] + weights @ training.effects
        return profiles


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows `[n, d]` scaled to length 1; a row of zeros remains one."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def _top_share(similarity: np.ndarray, allowed: np.ndarray, k: int) -> np.ndarray:
    """Return weights `[n]` of the k most similar allowed entries; those tied at the edge share what is left."""
    candidates = np.where(allowed, similarity, -np.inf)
    k = min(k, int(allowed.sum()))
    edge = np.sort(candidates)[::-1][k - 1]
    above = candidates > edge + 1e-12
    tied = ~above & (candidates >= edge - 1e-12)
    weights: np.ndarray = (above + tied * (k - above.sum()) / tied.sum()) / k
    return weights
