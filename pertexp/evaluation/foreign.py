"""Predictions of any tool, read from an .h5ad file and brought into the order of the truth."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import GroupSums, Units, profiles
from pertexp.data.screens.reading import H5adFile
from pertexp.data.screens.screen import CONTROL, Screen
from pertexp.errors import DataError, MismatchError, RequestError, nearest
from pertexp.metrics.cells import Cells

log = logging.getLogger(__name__)

PredictionScale = Literal["counts", "log1p", "profile"]


@dataclass(frozen=True, eq=False)
class Foreign:
    """Another tool's predictions on the genes of the truth.

    Attributes
    ----------
    name
        What they are called in tables.
    screen
        Predicted cells (or one profile a perturbation), genes in the order of the truth's file.
    scale
        `counts`, `log1p`, or `profile`: one row a perturbation and context, on the profile scale of the truth.
    """

    name: str
    screen: Screen
    scale: PredictionScale

    @property
    def perturbations(self) -> tuple[str, ...]:
        """Canonical names of what is predicted."""
        return tuple(name for name in self.screen.perturbations if name != CONTROL)

    def on(self, design: Design) -> "OnDesign":
        """The predictions of a design's test units; those that are not predicted are left out of the design."""
        return OnDesign(self, design)


@dataclass(frozen=True, eq=False)
class OnDesign:
    """Another tool's predictions of the test units of a design."""

    foreign: Foreign
    design: Design

    def covered(self) -> np.ndarray:
        """`[U]` which test units are predicted."""
        return np.array([bool(rows.size) for rows in self._rows()])

    def predictions(self) -> np.ndarray:
        """`[U, G]` profiles; NaN rows where a unit is not predicted."""
        screen = self._screen()
        rows = self._rows()
        if self.foreign.scale == "profile":
            return np.stack([_one(screen, own) for own in rows])
        exposure = self._size_factor(screen) if screen.scale == "counts" else np.ones(screen.n_cells)
        total = np.stack([np.asarray(screen.expression[own].sum(axis=0, dtype=np.float64)).ravel() for own in rows])
        sums = GroupSums(total, np.array([exposure[own].sum() for own in rows]), np.array([own.size for own in rows]))
        return profiles(screen, sums)

    def cells(self) -> Cells | None:
        """The predicted cells by test unit, their own controls as -1; None where profiles were predicted."""
        if self.foreign.scale == "profile":
            return None
        screen = self._screen()
        group = np.full(screen.n_cells, -2)
        for row, own in enumerate(self._rows()):
            group[own] = row
        group[screen.perturbation == 0] = -1
        kept = np.flatnonzero(group > -2)
        scale: Literal["counts", "log1p"] = "counts" if screen.scale == "counts" else "log1p"
        factor = self._size_factor(screen)[kept]
        return Cells(screen.expression[kept], group[kept], len(self._units()), scale, factor)

    def _units(self) -> Units:
        return self.design.units("test")

    def _rows(self) -> list[np.ndarray]:
        """Rows of the predicted cells of each test unit."""
        truth, own, units = self.design.screen, self.foreign.screen, self._units()
        position = {name: code for code, name in enumerate(own.perturbations)}
        rows = []
        for perturbation, context in zip(units.perturbation, units.context, strict=True):
            code = position.get(truth.perturbations[perturbation], -1)
            here = (own.perturbation == code) & self._in_context(truth.contexts[context])
            rows.append(np.flatnonzero(here))
        return rows

    def _in_context(self, name: str) -> np.ndarray:
        own = self.foreign.screen
        if name in own.contexts:
            return np.asarray(own.context == own.contexts.index(name))
        alone = len(own.contexts) == len(self.design.screen.contexts) == 1
        return np.full(own.n_cells, alone)

    def _screen(self) -> Screen:
        """On the genes of the design, in their order."""
        position = {gene: place for place, gene in enumerate(self.foreign.screen.genes)}
        return self.foreign.screen.take_genes(np.array([position[gene] for gene in self.design.screen.genes]))

    def _size_factor(self, screen: Screen) -> np.ndarray:
        """s of predicted counts `[n]`: their depth over the depth that a real control cell of s = 1 has.

        Depths are those of a named column where the file has it; else sums over the panel on both sides.
        """
        if screen.scale != "counts":
            return np.ones(screen.n_cells)
        truth = self.design.screen
        control = truth.perturbation == 0
        counts = truth.expression[control].sum(dtype=np.float64)
        depth = np.asarray(screen.expression.sum(axis=1, dtype=np.float64)).ravel()
        return np.maximum(depth, 1e-9) / (float(counts) / self.design.size_factor[control].sum())


def _one(screen: Screen, rows: np.ndarray) -> np.ndarray:
    if rows.size > 1:
        name = screen.perturbations[screen.perturbation[rows[0]]]
        raise DataError(
            f"{name} has {rows.size} rows in one context, but pred_scale=profile means one: type pred_scale=counts or "
            "pred_scale=log1p for cells."
        )
    if not rows.size:
        return np.full(screen.n_genes, np.nan)
    return np.asarray(screen.expression[rows[0]].todense(), dtype=np.float64).ravel()


def read_foreign(
    path: str,
    truth: Screen,
    columns: Mapping[str, Any],
    scale: PredictionScale | None,
    name: str | None,
    *,
    shared: bool,
) -> Foreign:
    """Read predictions and align their genes with those of the truth.

    Parameters
    ----------
    columns
        Options of `H5adFile`: which columns of `obs` and `var` mean what.
    scale
        What the numbers are; None where the file says so itself (`uns["scale"]`, as pertexp.predict writes it).
    shared
        Whether to go on where genes of the truth are missing; those are then left out on both sides.

    Raises
    ------
    DataError
        Where the file cannot be read, or lacks genes or perturbations of the truth.
    MismatchError
        Where counts are held against logs.
    """
    known = _declared(path, scale)
    read_as = "log2fc" if known == "profile" else known  # profiles are any numbers
    options = {**columns, "path": path, "scale": read_as, "recover_counts": False, "depth_key": None, "where": None}
    screen = H5adFile(**options).read(require_control=False)
    if known == "profile":
        screen = replace(screen, scale=truth.scale)
    _refuse_scale(known, truth)
    return Foreign(name or Path(path).stem, _on_genes_of(truth, screen, shared), known)


def _declared(path: str, scale: PredictionScale | None) -> PredictionScale:
    if scale is not None:
        return scale
    import h5py

    try:
        with h5py.File(path) as file:
            found = file["uns/scale"][()] if "uns/scale" in file else b""
    except OSError as fault:
        raise DataError(
            f"{path} cannot be read as .h5ad ({type(fault).__name__}): name the file of predictions."
        ) from fault
    said = found.decode() if isinstance(found, bytes) else str(found)
    if said in ("counts", "log1p"):
        return "counts" if said == "counts" else "log1p"
    if said:
        return "profile"
    raise RequestError(
        f"{path} does not say what its numbers are: type pred_scale=counts, pred_scale=log1p, or pred_scale=profile "
        "for one mean profile a perturbation on the scale of the truth."
    )


def _refuse_scale(scale: PredictionScale, truth: Screen) -> None:
    if scale in ("profile", truth.scale):
        return
    if truth.scale == "counts":
        raise MismatchError(
            "the predictions are log1p values and the truth is counts: type data.normalize=true to score both as logs."
        )
    raise MismatchError(
        f"the predictions are counts and the truth is scored on the scale {truth.scale}: name counts as truth, with "
        "data.normalize=false."
    )


def _on_genes_of(truth: Screen, screen: Screen, shared: bool) -> Screen:
    position = {gene: place for place, gene in enumerate(screen.genes)}
    missing = [gene for gene in truth.genes if gene not in position]
    if missing and not shared:
        raise DataError(
            f"the predictions lack {len(missing)} of the {truth.n_genes} genes of the truth ({', '.join(missing[:3])}; "
            f"for {missing[0]}, {nearest(missing[0], screen.genes)}): type genes=shared to score the others, or name "
            "gene symbols with data.gene_symbol_key=..."
        )
    kept = [gene for gene in truth.genes if gene in position]
    if not kept:
        raise DataError("the predictions share no gene with the truth: name gene symbols with data.gene_symbol_key=...")
    extra = screen.n_genes - len(kept)
    if missing or extra:
        log.warning("scored on %d genes; %d are not predicted, %d others are left out.", len(kept), len(missing), extra)
    return screen.take_genes(np.array([position[gene] for gene in kept]))


def known_perturbations(foreign: Foreign, truth: Screen) -> tuple[str, ...]:
    """Perturbations that are both predicted and in the truth; those that are not are named in a warning."""
    both = tuple(name for name in foreign.perturbations if name in truth.perturbations)
    strangers = sorted(set(foreign.perturbations) - set(both))
    if not both:
        wanted = strangers[0] if strangers else "none"
        raise DataError(
            f"none of the {len(strangers)} predicted perturbations is in the truth (for {wanted}, "
            f"{nearest(wanted, truth.perturbations)}): name the columns with data.perturbation_key=... and "
            "data.separator=..."
        )
    if strangers:
        log.warning(
            "%d predicted perturbations are not in the truth and are left out: %s",
            len(strangers),
            ", ".join(strangers[:8]),
        )
    return both
