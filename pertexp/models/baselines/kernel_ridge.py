"""The kernel ridge baseline: perturbations of related genes have related effects."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from pertexp.data.screens.design import TrainingProfiles
from pertexp.data.screens.embeddings import EmbeddingTable, read_table
from pertexp.data.screens.profiles import Units
from pertexp.data.screens.screen import members
from pertexp.models.baselines.screens import unit_rows
from pertexp.nn.kernel_ridge import Choice, Observed, choose, dual_weights

log = logging.getLogger(__name__)


class KernelRidge:
    """The mean effect of the context, plus a kernel ridge regression of what each perturbation adds to it.

    A kernel is the product of the features of two perturbations, which are sums over members, so that effects add up:
    `size`, the number of members less that of the average training perturbation; `members`, which they are;
    `embedding`, rows of `data.perturbation_embedding` (GO by default); and rows of each table, such as one of STRING.
    Which of them, in equal shares, and λ are those that err least when one training perturbation after another is left
    out, in all its contexts at once, and predicted from the others; validation and test have no part in it. Members
    that recur in other combinations are known while one is left out, as they are of a tested combination. What an
    embedding learned from training effects (`pca`) it learned from those left out as well. Where no kernel lowers the
    error, and for a perturbation that is related to none of training, the prediction is that of the train mean.

    Parameters
    ----------
    tables
        Files with a row of features a gene, by the name of the kernel, in the formats of
        `data/perturbation_embedding=table`; rows are scaled to length 1, a gene without a row has zeros. A file that
        is not there is left out, and `notes` say so.

    Attributes
    ----------
    notes
        Which tables are not there.

    Raises
    ------
    DataError
        Where a table is no embedding.
    """

    def __init__(self, tables: Mapping[str, str] | None = None) -> None:
        paths = {name: Path(path) for name, path in (tables or {}).items()}
        self._tables = {name: read_table(path) for name, path in paths.items() if path.is_file()}
        absent = {name: path for name, path in paths.items() if name not in self._tables}
        self.notes = tuple(f"without the kernel {name}, for there is no file {path}" for name, path in absent.items())

    def fit(self, training: TrainingProfiles) -> Self:
        """Choose kernels and λ, and solve."""
        trained, group = np.unique(training.units.perturbation, return_inverse=True)
        kernels = _kernels(self._features(training), trained)
        self._base = training.control + training.mean_effect
        self._added = np.zeros((len(training.perturbations), training.control.shape[1]))
        if kernels:
            self._added = _regression(kernels, trained, group, training)
        return self

    def predict(self, units: Units) -> np.ndarray:
        """Return `[U, G]` control plus mean effect plus the regression."""
        profiles: np.ndarray = self._base[units.context] + self._added[units.perturbation]
        return profiles

    def _features(self, training: TrainingProfiles) -> dict[str, np.ndarray]:
        """Return features `[P, d]` of all perturbations of the screen, by the name of their kernel."""
        sets = [members(name) for name in training.perturbations]
        targets = sorted({target for own in sets for target in own})
        size = np.array([len(own) for own in sets], dtype=float)
        tables = {name: _summed(sets, targets, _rows(table, targets)) for name, table in self._tables.items()}
        return {
            "size": (size - size[np.unique(training.units.perturbation)].mean())[:, None],
            "members": _summed(sets, targets, np.eye(len(targets))),
            "embedding": training.perturbation_embedding,
            **tables,
        }


def _rows(table: EmbeddingTable, targets: list[str]) -> np.ndarray:
    """Return `[T, d]` rows of length 1; zeros for a target without a row."""
    place = pd.Index(table.names).get_indexer(pd.Index(targets))
    return np.where(place[:, None] < 0, 0.0, unit_rows(table.vectors[place]))


def _summed(sets: Sequence[tuple[str, ...]], targets: list[str], rows: np.ndarray) -> np.ndarray:
    """Return `[P, d]` sums of the rows of each set's members."""
    place = {target: row for row, target in enumerate(targets)}
    return np.stack([rows[[place[target] for target in own]].sum(axis=0) for own in sets])


def _kernels(features: Mapping[str, np.ndarray], trained: np.ndarray) -> dict[str, np.ndarray]:
    """Return kernels `[P, T]` of all perturbations with those of training, which have 1 on average with themselves.

    One that relates no two training perturbations is left out: leaving one out says nothing of it.
    """
    kernels = {}
    for name, rows in features.items():
        kernel = rows @ rows[trained].T
        among = kernel[trained]
        if np.any(among[~np.eye(len(trained), dtype=bool)]):
            kernels[name] = kernel * len(trained) / np.trace(among)
        else:
            log.info("kernel ridge: without the kernel %s, which relates no two training perturbations.", name)
    return kernels


def _regression(
    kernels: Mapping[str, np.ndarray], trained: np.ndarray, group: np.ndarray, training: TrainingProfiles
) -> np.ndarray:
    """Return `[P, G]` what each perturbation adds to the mean effect; `group` `[U]` are places in `trained` `[T]`."""
    context = training.units.context
    every = np.stack(list(kernels.values()))
    chosen = choose(every[:, trained], Observed.of(training.effects, group, context))
    _tell(list(kernels), chosen)
    rest = Observed(training.effects - training.mean_effect[context], group, context)
    kernel = np.tensordot(chosen.weights, every, axes=1)
    added: np.ndarray = kernel @ dual_weights(kernel[trained], chosen.ridge, rest)
    return added


def _tell(names: Sequence[str], chosen: Choice) -> None:
    used = [name for name, weight in zip(names, chosen.weights.tolist(), strict=True) if weight > 0]
    log.info(
        "kernel ridge: %s, λ = %.3g; squared error on training perturbations left out %.4g, of the mean effect %.4g.",
        " + ".join(used) or "no kernel", chosen.ridge, chosen.error, chosen.error_of_means,
    )  # fmt: skip
