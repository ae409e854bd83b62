"""Perturbations that a trained model can predict by name: those whose members its embedding knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pertexp.config.errors import DataError, RequestError, nearest
from pertexp.data.screens.design import Design
from pertexp.data.screens.labels import canonical_name
from pertexp.data.screens.screen import CONTROL, members


@dataclass(frozen=True)
class Vocabulary:
    """The names that a model was trained with, and the embedding of every target that could be one.

    Attributes
    ----------
    perturbations
        Canonical names in the order of the model's perturbation indices, control first.
    contexts
        Names in the order of its context indices.
    targets, vectors
        `[T]` names and `[T, d]` embeddings of single targets; a combination is the sum of its members.
    """

    perturbations: tuple[str, ...]
    contexts: tuple[str, ...]
    targets: tuple[str, ...]
    vectors: np.ndarray

    @classmethod
    def of(cls, design: Design) -> "Vocabulary":
        """Return the vocabulary of a screen."""
        table = design.training.target_table
        names = tuple(map(str, table.names))
        return cls(design.screen.perturbations, design.screen.contexts, names, table.vectors)

    def stored(self) -> dict[str, Any]:
        """Return plain values and one float32 tensor, for a checkpoint."""
        vectors = torch.from_numpy(np.ascontiguousarray(self.vectors, dtype=np.float32))
        return {
            "perturbations": list(self.perturbations),
            "contexts": list(self.contexts),
            "targets": list(self.targets),
            "vectors": vectors,
        }

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Vocabulary":
        """Return what `stored` gave."""
        perturbations, contexts, targets = (
            tuple(map(str, stored[key])) for key in ("perturbations", "contexts", "targets")
        )
        return cls(perturbations, contexts, targets, np.asarray(stored["vectors"], dtype=np.float64))

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Return `[n, d]` embeddings of canonical names.

        Raises
        ------
        DataError
            Where a member has no embedding; near names are given.
        """
        position = {target: row for row, target in enumerate(self.targets)}
        unknown = sorted({part for name in names for part in members(name)} - set(position))
        if unknown:
            raise DataError(
                f"{len(unknown)} targets cannot be predicted, the model's perturbation embedding has no row for them "
                f"({', '.join(unknown[:5])}): for {unknown[0]}, {nearest(unknown[0], position)}"
            )
        rows = [[position[part] for part in members(name)] for name in names]
        return np.stack([self.vectors[own].sum(axis=0) for own in rows])

    def context(self, name: str) -> int:
        """Index of a context; RequestError with the known ones."""
        if name not in self.contexts:
            raise RequestError(f"the model knows no context {name!r}; {nearest(name, self.contexts)}")
        return self.contexts.index(name)


def canonical(names: Sequence[str]) -> list[str]:
    """Return canonical names as asked for, once each; RequestError for control and for none at all."""
    found = list(dict.fromkeys(canonical_name(str(name)) for name in names))
    if not found:
        raise RequestError("no perturbation was named: type 'perturbations=[A,B,A+B]'.")
    if CONTROL in found:
        raise RequestError("control is no perturbation to predict: leave it out of perturbations=[...].")
    return found
