"""Read the predictions of any tool from an .h5ad file, in the order of the truth."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pertexp.config.errors import DataError, MismatchError, RequestError, nearest
from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import SCALE_NAMES, GroupSums, Units, profiles
from pertexp.data.screens.reading import H5adFile
from pertexp.data.screens.scale import verify_scale
from pertexp.data.screens.screen import CONTROL, Screen
from pertexp.evaluation.screens.no_effect import without_noise
from pertexp.metrics.cells import Cells
from pertexp.metrics.output import OutputName

log = logging.getLogger(__name__)

PredictionScale = Literal["counts", "log1p", "profile", "impact"]
# What files on a scale predict: cells and profiles are scored as profiles.
PREDICTED: dict[PredictionScale, OutputName] = {
    "counts": "profile",
    "log1p": "profile",
    "profile": "profile",
    "impact": "impact",
}
OF_CELLS: frozenset[PredictionScale] = frozenset({"counts", "log1p"})
DEPTH_TOLERANCE = 1.33
LOWEST_LOG = -0.5  # of a predicted log1p value that a regression may give for 0


@dataclass(frozen=True, eq=False)
class ExternalPrediction:
    """Another tool's predictions on the genes of the truth.

    Attributes
    ----------
    name
        What they are called in tables.
    screen
        Predicted cells (or one profile a perturbation), genes in the order of the truth's file.
    scale
        `counts` or `log1p` of cells; `profile` or `impact`: one row a perturbation and context, on the profile scale of
        the truth, or of scores.
    depth
        What log1p values were normalised to; None: to the depth that the truth is.
    """

    name: str
    screen: Screen
    scale: PredictionScale
    depth: float | None = None

    @property
    def perturbations(self) -> tuple[str, ...]:
        """Canonical names of what is predicted."""
        return tuple(name for name in self.screen.perturbations if name != CONTROL)

    def on(self, design: Design) -> "OnDesign":
        """Return the predictions of a design's test units; those that are not predicted are left out of the design."""
        return OnDesign(self, design)


@dataclass(frozen=True, eq=False)
class OnDesign:
    """Another tool's predictions of the test units of a design."""

    external: ExternalPrediction
    design: Design

    def covered(self) -> np.ndarray:
        """Return `[U]` which test units are predicted."""
        return np.array([bool(rows.size) for rows in self._rows()])

    def predictions(self) -> np.ndarray:
        """Return `[U, G]` profiles, means of control cells without rounding; NaN rows where a unit is not predicted."""
        predicted = self._profiles()
        if self.external.scale == "impact":
            return predicted
        return without_noise(predicted, self._units(), self.design)

    def _profiles(self) -> np.ndarray:
        screen = self._screen()
        rows = self._rows()
        if self.external.scale not in OF_CELLS:
            return np.stack([_one(screen, own, self.external.scale) for own in rows])
        exposure = self._size_factor(screen) if screen.scale == "counts" else np.ones(screen.n_cells)
        total = np.stack([np.asarray(screen.expression[own].sum(axis=0, dtype=np.float64)).ravel() for own in rows])
        sums = GroupSums(total, np.array([exposure[own].sum() for own in rows]), np.array([own.size for own in rows]))
        return profiles(screen, sums)

    def cells(self) -> Cells | None:
        """Return the predicted cells by test unit, their own controls as -1; None where no cells were predicted."""
        if self.external.scale not in OF_CELLS:
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
        """Return rows of the predicted cells of each test unit."""
        truth, own, units = self.design.screen, self.external.screen, self._units()
        position = {name: code for code, name in enumerate(own.perturbations)}
        rows = []
        for perturbation, context in zip(units.perturbation, units.context, strict=True):
            code = position.get(truth.perturbations[perturbation], -1)
            here = (own.perturbation == code) & self._in_context(truth.contexts[context])
            rows.append(np.flatnonzero(here))
        return rows

    def _in_context(self, name: str) -> np.ndarray:
        own = self.external.screen
        if name in own.contexts:
            return np.asarray(own.context == own.contexts.index(name))
        alone = len(own.contexts) == len(self.design.screen.contexts) == 1
        return np.full(own.n_cells, alone)

    def require_depth(self) -> None:
        """Refuse log1p values that were normalised to another depth than those of the truth.

        Raises
        ------
        DataError
            Where a typical cell (of control, where there are any) adds up to a third more or less than a real control.
        """
        if self.external.scale != "log1p":
            return
        screen, truth = self._screen(), self.design.screen
        own = screen.perturbation == 0
        found = _typical_sum(screen, own if own.any() else np.ones(screen.n_cells, dtype=bool))
        wanted = _typical_sum(truth, truth.perturbation == 0)
        if not 1 / DEPTH_TOLERANCE < found / wanted < DEPTH_TOLERANCE:
            raise DataError(
                f"a predicted cell adds up to {found:.4g} counts on these genes and a real control cell to "
                f"{wanted:.4g}, so "
                "the two were normalised to other depths: type pred_depth=... with that of the predictions, such as "
                "pred_depth=1e4, and they are brought to that of the truth."
            )

    def _screen(self) -> Screen:
        """On the genes of the design, in their order, and at its depth."""
        position = {gene: place for place, gene in enumerate(self.external.screen.genes)}
        screen = self.external.screen.take_genes(np.array([position[gene] for gene in self.design.screen.genes]))
        if self.external.depth is None or self.external.scale != "log1p":
            return screen
        natural = screen.expression.copy()
        natural.data = np.log1p(np.expm1(natural.data.astype(np.float64)) * self._depth() / self.external.depth)
        return replace(screen, expression=natural.astype(np.float32))

    def _depth(self) -> float:
        """Return the depth that the counts of the truth were normalised to."""
        depth = self.design.screen.depth
        if depth is None or not self.design.notes.get("normalised_at_median_depth"):
            raise MismatchError(
                "pred_depth=... brings predictions to the depth of the truth, which is not known where the "
                "truth is given "
                "as log1p: name counts as truth, with data.normalize=true."
            )
        return float(np.median(depth[self.design.cells("train", "control")]))

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
        size_factor: np.ndarray = np.maximum(depth, 1e-9) / (float(counts) / self.design.size_factor[control].sum())
        return size_factor


def _typical_sum(screen: Screen, rows: np.ndarray) -> float:
    """Return the median over cells of Σ expm1(x)."""
    values = screen.expression[np.flatnonzero(rows)]
    sums = np.asarray(values.astype(np.float64).expm1().sum(axis=1)).ravel()
    return max(float(np.median(sums)), 1e-9)


def _one(screen: Screen, rows: np.ndarray, scale: PredictionScale) -> np.ndarray:
    if rows.size > 1:
        name = screen.perturbations[screen.perturbation[rows[0]]]
        raise DataError(
            f"{name} has {rows.size} rows in one context, but pred_scale={scale} means one: keep one row a "
            "perturbation and context, or type pred_scale=counts or pred_scale=log1p for cells."
        )
    if not rows.size:
        return np.full(screen.n_genes, np.nan)
    return np.asarray(screen.expression[rows[0]].todense(), dtype=np.float64).ravel()


def read_external(
    path: str,
    truth: Screen,
    columns: Mapping[str, Any],
    scale: PredictionScale | None,
    name: str | None,
    *,
    shared: bool,
    wanted: OutputName = "profile",
    choices: Mapping[OutputName, str] | None = None,
) -> ExternalPrediction:
    """Read predictions and align their genes with those of the truth.

    Parameters
    ----------
    columns
        Options of `H5adFile`: which columns of `obs` and `var` mean what.
    scale
        What the numbers are; None where the file says so itself (`uns["scale"]`, as pertexp.predict writes it).
    shared
        Whether to go on where genes of the truth are missing; those are then left out on both sides.
    wanted
        What is scored.
    choices
        What to type to score each of what files predict, for the message where it is not what is wanted.

    Raises
    ------
    DataError
        Where the file cannot be read, or lacks genes or perturbations of the truth.
    MismatchError
        Where counts are compared with logs.
    """
    known = _declared(path, scale, truth, _Wanted(wanted, choices or {}))
    read_as = "counts" if known == "counts" else "log2fc"  # any numbers
    options = {**columns, "path": path, "scale": read_as, "recover_counts": False, "depth_key": None, "where": None}
    try:
        screen = H5adFile(**options).read(require_control=False)
        screen = _as_logs(screen, path) if known == "log1p" else screen
    except DataError as fault:
        said = str(fault).replace("data.scale=log2fc for fold changes", "pred_scale=profile for mean profiles")
        said = said.replace("data.scale", "pred_scale")
        raise DataError(said if Path(path).name in said else f"in the predictions {path}: {said}") from fault
    if known not in OF_CELLS:
        screen = replace(screen, scale=truth.scale)
    _refuse_scale(known, truth)
    return ExternalPrediction(name or Path(path).stem, _on_genes_of(truth, screen, shared), known)


def _as_logs(screen: Screen, path: str) -> Screen:
    """Return predicted log1p values; those slightly below 0, as a regression gives them, are clipped.

    Raises
    ------
    DataError
        Where values lie further below 0, naming the gene of the lowest one, or are no log1p of counts otherwise.
    """
    values = screen.expression.data
    below = np.flatnonzero(values < 0)
    if below.size:
        lowest = below[np.argmin(values[below])]
        if values[lowest] < LOWEST_LOG:
            gene, n = screen.genes[screen.expression.indices[lowest]], int((values < LOWEST_LOG).sum())
            raise DataError(
                f"{path} holds {values[lowest]:.4g} for {gene} ({n} values below {LOWEST_LOG:g}), where log1p values "
                "are 0 or more: bring all genes to log1p of depth-normalised counts (no z-scores, no differences), or "
                "type pred_scale=profile for mean profiles on the scale of the truth."
            )
        log.warning(
            "%d of %d predicted values are below 0, down to %.3g, and are taken for 0.",
            below.size, screen.expression.shape[0] * screen.n_genes, values[lowest],
        )  # fmt: skip
    logs = screen.expression.copy()
    logs.data = np.maximum(values, 0.0)
    logs.eliminate_zeros()
    verify_scale(logs.data, "log1p", path)
    return replace(screen, expression=logs, scale="log1p")


class _Wanted(NamedTuple):
    """What is scored, and what to type for each kind of prediction in a file."""

    output: OutputName
    choices: Mapping[OutputName, str]

    def require(self, found: str, said: str) -> None:
        """Refuse (MismatchError) a file of something else; `said` is the beginning of the message."""
        if found == self.output:
            return
        other = {str(output): choice for output, choice in self.choices.items()}.get(found)
        raise MismatchError(
            f"{said}, and {self.output}s are scored here: {f'type {other}, or ' if other else ''}name a file of "
            f"predicted {self.output}s."
        )

    @property
    def advice(self) -> str:
        """What to type where a file does not say what its numbers are."""
        *first, last = [f"pred_scale={_TYPED[scale]}" for scale in PREDICTED if PREDICTED[scale] == self.output]
        return f"{', '.join(first)}, or {last}" if first else last


_TYPED: dict[PredictionScale, str] = {
    "counts": "counts",
    "log1p": "log1p",
    "profile": "profile for one mean profile a perturbation on the scale of the truth",
    "impact": "impact for one row of scores a perturbation, none negative, larger where a gene moves more",
}


def _declared(path: str, scale: PredictionScale | None, truth: Screen, wanted: _Wanted) -> PredictionScale:
    said, predicts = _said_by(path)
    if predicts:
        wanted.require(predicts, f"{path} says that it predicts {predicts} (uns['predicts'])")
    if scale is not None:
        wanted.require(PREDICTED[scale], f"pred_scale={scale} means predicted {PREDICTED[scale]}s")
        return scale
    words: dict[str, PredictionScale] = {SCALE_NAMES[truth.scale]: "profile"}
    words |= {one: one for one in _TYPED if one != "profile"}
    found = words.get(said) or words.get(predicts)
    if found is not None:
        wanted.require(PREDICTED[found], f"{path} says that its numbers are {found} (uns['scale'])")
        return found
    if said:
        raise MismatchError(
            f"{path} says that its numbers are on the scale '{said}', and the truth is scored as "
            f"'{SCALE_NAMES[truth.scale]}': "
            "bring one to the other (data.normalize=true or false), or type pred_scale=... where the file is wrong."
        )
    raise RequestError(f"{path} does not say what its numbers are: type {wanted.advice}.")


def _said_by(path: str) -> tuple[str, str]:
    """Return what a file says of its scale and of what it predicts; empty where it does not."""
    import h5py

    if not Path(path).is_file():
        raise DataError(f"no file {path}: name the file of predictions with pred=...")
    try:
        with h5py.File(path) as file:
            found = [file[f"uns/{key}"][()] if f"uns/{key}" in file else b"" for key in ("scale", "predicts")]
    except OSError as fault:
        raise DataError(
            f"{path} cannot be read as .h5ad ({type(fault).__name__}): name the file of predictions."
        ) from fault
    scale, predicts = (one.decode() if isinstance(one, bytes) else str(one) for one in found)
    return scale, predicts


def _refuse_scale(scale: PredictionScale, truth: Screen) -> None:
    if scale not in OF_CELLS or scale == truth.scale:
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


def known_perturbations(external: ExternalPrediction, truth: Screen) -> tuple[str, ...]:
    """Return Perturbations that are both predicted and in the truth; those that are not are named in a warning."""
    both = tuple(name for name in external.perturbations if name in truth.perturbations)
    strangers = sorted(set(external.perturbations) - set(both))
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
