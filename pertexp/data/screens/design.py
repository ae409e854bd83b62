"""The design of an experiment on a screen: roles of cells, and all that is estimated from training rows alone."""

import logging
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from pertexp import threads
from pertexp.config.errors import DataError, MismatchError
from pertexp.data.screens import control_split
from pertexp.data.screens.cell_cycle import read_cell_cycle_genes, score_phases
from pertexp.data.screens.embeddings import (
    EmbeddingSource,
    EmbeddingTable,
    gene_rows,
    perturbation_rows,
    table_of,
)
from pertexp.data.screens.profiles import PROFILE_SCALES, Units, control_profiles, unit_profiles
from pertexp.data.screens.scale import log_normalise
from pertexp.data.screens.screen import CONTROL, PHASES, Screen, members
from pertexp.data.screens.split_table import HELD_OUT, NOT_TESTED, ROLES, SplitTable
from pertexp.data.screens.splits import AtFold
from pertexp.metrics.output import SCALE_WORDS, ProfileScale
from pertexp.runs.documents import plain
from pertexp.runs.schema import ScreenRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingProfiles:
    """Training profiles, embeddings and controls: all that a baseline may be fitted on.

    Attributes
    ----------
    perturbations
        All canonical names of the screen, control first.
    genes
        `[G]` names of the measured genes.
    scale
        The scale of all profiles, as models declare it.
    units
        The training units.
    values
        `[U, G]` their profiles.
    validation_units, validation_values
        The same for validation: to choose by, never to fit.
    control
        `[C, G]` profiles of the fitted control cells by context.
    gene_embedding, perturbation_embedding
        `[G, dg]` and `[P, dp]`.
    target_table
        Every target that the perturbation embedding knows, in the screen or not.
    """

    perturbations: tuple[str, ...]
    genes: np.ndarray
    scale: ProfileScale
    units: Units
    values: np.ndarray
    validation_units: Units
    validation_values: np.ndarray
    control: np.ndarray
    gene_embedding: np.ndarray
    perturbation_embedding: np.ndarray
    target_table: EmbeddingTable

    @property
    def effects(self) -> np.ndarray:
        """`[U, G]` profile minus the control profile of the unit's context."""
        effects: np.ndarray = self.values - self.control[self.units.context]
        return effects

    @cached_property
    def mean_effect(self) -> np.ndarray:
        """`[C, G]` mean effect of the training units of each context; of all contexts where it has none."""
        effects, context = self.effects, self.units.context
        own = [effects[context == c] for c in range(self.control.shape[0])]
        return np.stack([(rows if len(rows) else effects).mean(axis=0) for rows in own])

    def mapped(self, link: Callable[[np.ndarray], np.ndarray]) -> "TrainingProfiles":
        """Return the same profiles through a link; `scale` remains what they were before it."""
        return replace(
            self,
            values=link(self.values),
            validation_values=link(self.validation_values),
            control=link(self.control),
        )


@dataclass(frozen=True)
class Design:
    """A screen with its split, its size factors and its embeddings.

    Attributes
    ----------
    screen
        Selected genes, all cells of large enough groups.
    split
        The split table, all folds; `split.fold` is the one in use.
    role
        `[N]` role of each cell: train, val, test, control, held_out_control or excluded.
    size_factor
        `[N]` L / median(L), the median over training and fitted control cells; 1 off the count scale.
    training
        Training profiles with the embeddings.
    notes
        What was left out, replaced or fell back: plain values for the record of the run.
    """

    screen: Screen
    split: SplitTable
    role: np.ndarray
    size_factor: np.ndarray
    training: TrainingProfiles
    notes: dict[str, Any]

    @property
    def scale_of_profiles(self) -> ProfileScale:
        """The scale of profiles, as models declare it."""
        return PROFILE_SCALES[self.screen.scale]

    @property
    def profile_scale(self) -> str:
        """The same in words."""
        return SCALE_WORDS[self.scale_of_profiles]

    def units(self, role: str) -> Units:
        """Return units of a role in the fold in use."""
        return _units_with(self.screen, self.split, role)

    def testing(self, kept: np.ndarray) -> "Design":
        """Return the same design with some of its test units `[U]` (a mask) alone; the others are excluded."""
        units, rows = self.units("test"), self.split.table.copy()
        dropped = {
            (self.screen.perturbations[p], self.screen.contexts[c])
            for p, c in zip(units.perturbation[~kept], units.context[~kept], strict=True)
        }
        pairs = zip(rows["perturbation"], rows["context"], rows["fold"], strict=True)
        gone = [fold == self.split.fold and (name, context) in dropped for name, context, fold in pairs]
        rows.loc[gone, "role"] = "excluded"
        rows.loc[gone, "seen"] = NOT_TESTED
        split = replace(self.split, table=rows)
        return replace(self, split=split, role=_cell_roles(self.screen, split))

    def cells(self, *roles: str) -> np.ndarray:
        """Return `[N]` mask of the cells with one of these roles."""
        return np.isin(self.role, roles)

    def seen_members(self) -> np.ndarray:
        """For each test unit the number of members that occur in training `[U]`."""
        rows = self.split.roles()
        seen = rows.set_index(["perturbation", "context"])["seen"]
        units = self.units("test")
        keys = [
            (self.screen.perturbations[p], self.screen.contexts[c])
            for p, c in zip(units.perturbation, units.context, strict=True)
        ]
        return seen.loc[keys].to_numpy()

    def schema(self) -> dict[str, Any]:
        """Return what a model that was trained here needs to be used elsewhere: plain values."""
        return {
            "genes": self.screen.genes.tolist(),
            "perturbations": list(self.screen.perturbations),
            "contexts": list(self.screen.contexts),
            "scale": self.screen.scale,
            "profile_scale": self.profile_scale,
            "split_hash": self.split.hash,
            "fold": self.split.fold,
        }

    def record(self) -> ScreenRecord:
        """Return what the data are, for the record of a run."""
        rows = self.split.roles()
        roles = rows["role"].value_counts().to_dict()
        return ScreenRecord(
            task="screens",
            split_hash=self.split.hash,
            fold=self.split.fold,
            notes=plain(self.notes),
            cells=self.screen.n_cells,
            genes=self.screen.n_genes,
            training_perturbations=int(rows.loc[rows["role"] == "train", "perturbation"].nunique()),
            units_by_role={str(role): int(count) for role, count in roles.items()},
            cells_by_role={str(role): int((self.role == role).sum()) for role in sorted(set(self.role))},
        )


@dataclass(kw_only=True)
class DesignOptions:
    """Options of the design: split, gene selection, normalisation, embeddings.

    Attributes
    ----------
    split
        Builder of the split table.
    gene_embedding, perturbation_embedding
        Sources of G and P.
    min_cells
        Groups (perturbation × context) with fewer cells are left out and listed.
    n_top_genes
        Keep the most variable genes of the training rows, and the perturbed genes; all where None.
    normalize
        Turn counts into log1p of counts at the median depth; `where_counts` leaves data on a log scale as they are.
    phase_genes
        Score cell-cycle phases from this gene list (S then G2/M, or .gmt).
    """

    split: Callable[[pd.DataFrame], SplitTable]
    gene_embedding: EmbeddingSource
    perturbation_embedding: EmbeddingSource
    min_cells: Annotated[int, Field(ge=1)] = 10
    n_top_genes: Annotated[int, Field(ge=1)] | None = None
    normalize: bool | Literal["where_counts"] = False
    phase_genes: str | None = None


def build_design(screen: Screen, options: DesignOptions) -> Design:
    """Filter groups, split, then fit on training and control rows: genes, depth, phases, embeddings.

    Raises
    ------
    DataError
        On contexts without controls, nothing left to train on, and what the parts refuse.
    """
    screen, small = _without_small_groups(screen, options.min_cells)
    _require_controls(screen)
    split = _with_held_out_controls(options.split(_unit_table(screen)), screen)
    role = _cell_roles(screen, split)
    fitted = np.isin(role, ("train", "control"))
    size_factor = _size_factors(screen, fitted)
    screen = _with_phases(screen, size_factor, role, options.phase_genes)
    screen = _with_top_genes(screen, size_factor, fitted, options.n_top_genes)
    normalise = options.normalize is True or (options.normalize == "where_counts" and screen.scale == "counts")
    if normalise:
        screen = _normalised(screen, size_factor)
        size_factor = np.ones(screen.n_cells)
    training, missing = _training_profiles(screen, size_factor, split, role, options)
    notes: dict[str, Any] = {**screen.provenance, "groups_below_min_cells": small, **missing}
    notes["few_controls"] = _few_controls(screen)
    notes["normalised_at_median_depth"] = normalise
    return Design(screen, split, role, size_factor, training, notes)


def build_folds(screen: Screen, options: DesignOptions) -> Iterator[Design]:
    """Yield one design per fold of the split, each fitted on its own training rows."""
    first = build_design(screen, options)
    for fold in first.split.folds:
        if fold == first.split.fold:
            yield first
        else:
            own = copy(options)
            own.split = AtFold(options.split, fold)
            yield build_design(screen, own)


def _without_small_groups(screen: Screen, min_cells: int) -> tuple[Screen, list[str]]:
    n_contexts = len(screen.contexts)
    group = screen.perturbation * n_contexts + screen.context
    size = np.bincount(group, minlength=len(screen.perturbations) * n_contexts)
    small = np.flatnonzero((size < min_cells) & (size > 0))
    names = [f"{screen.perturbations[g // n_contexts]} in {screen.contexts[g % n_contexts]}: {size[g]}" for g in small]
    if not names:
        return screen, names
    keep = size[group] >= min_cells
    log.warning(
        "left out %d groups with fewer than %d cells (data.min_cells): %s",
        len(names),
        min_cells,
        "; ".join(names[:12]),
    )
    if not keep.any():
        raise DataError(f"no group has {min_cells} cells: type a smaller data.min_cells.")
    return screen.take_cells(keep), names


def _require_controls(screen: Screen) -> None:
    has_control = np.bincount(screen.context[screen.perturbation == 0], minlength=len(screen.contexts)) > 0
    if not has_control.all():
        bare = [name for name, has in zip(screen.contexts, has_control, strict=True) if not has]
        raise DataError(
            f"{len(bare)} contexts have no control cells (for example {bare[0]}): an effect needs controls of "
            "its own context; leave those contexts out with data.where, lower data.min_cells, or name fewer "
            "data.context_key."
        )


def _with_held_out_controls(split: SplitTable, screen: Screen) -> SplitTable:
    return split.with_held_out(_control_counts(screen)).validate()


def _control_counts(screen: Screen) -> dict[str, int]:
    counts = np.bincount(screen.context[screen.perturbation == 0], minlength=len(screen.contexts))
    return dict(zip(screen.contexts, counts.tolist(), strict=True))


def _few_controls(screen: Screen) -> list[str]:
    """Say which contexts have few control cells, and what that means."""
    few = {name: n for name, n in _control_counts(screen).items() if n < control_split.ENOUGH}
    if not few or screen.scale == "log2fc":
        return []
    log.warning(
        "%d contexts have fewer than %d control cells, so that effects against half of them are noisy; below %d none "
        "is held out, and metrics with held-out controls do not apply: %s",
        len(few),
        control_split.ENOUGH,
        control_split.FEWEST,
        ", ".join(f"{name}: {n}" for name, n in list(few.items())[:12]),
    )
    return [f"{name}: {n}" for name, n in few.items()]


def _unit_table(screen: Screen) -> pd.DataFrame:
    frame = pd.DataFrame({"perturbation": screen.perturbation, "context": screen.context})
    counted = frame.value_counts().rename("n_cells").reset_index()
    counted["perturbation"] = [screen.perturbations[i] for i in counted["perturbation"]]
    counted["context"] = [screen.contexts[i] for i in counted["context"]]
    return counted


def _units_with(screen: Screen, split: SplitTable, role: str) -> Units:
    rows = split.roles()
    rows = rows[(rows["role"] == role) & (rows["perturbation"] != CONTROL)]
    perturbation = pd.Index(screen.perturbations).get_indexer(pd.Index(rows["perturbation"]))
    context = pd.Index(screen.contexts).get_indexer(pd.Index(rows["context"]))
    return Units(perturbation.astype(np.int64), context.astype(np.int64))


def _cell_roles(screen: Screen, split: SplitTable) -> np.ndarray:
    rows = split.roles()
    rows = rows[rows["role"] != HELD_OUT]
    lookup = np.full((len(screen.perturbations), len(screen.contexts)), "excluded", dtype=object)
    perturbation = pd.Index(screen.perturbations).get_indexer(pd.Index(rows["perturbation"]))
    context = pd.Index(screen.contexts).get_indexer(pd.Index(rows["context"]))
    lookup[perturbation, context] = rows["role"].to_numpy()
    roles: np.ndarray = lookup[screen.perturbation, screen.context].astype(f"U{max(map(len, ROLES))}")
    held_out = split.controls.cells(roles == "control", screen.context, screen.contexts)
    roles[held_out] = HELD_OUT
    return roles


def _size_factors(screen: Screen, fitted: np.ndarray) -> np.ndarray:
    """s = L / median(L) `[N]`; DataError where a cell has no counts at all."""
    if screen.scale != "counts" or screen.depth is None:
        return np.ones(screen.n_cells)
    empty = int(np.count_nonzero(screen.depth <= 0))
    if empty:
        raise DataError(
            f"{empty} cells hold no counts, so they have no size factor: "
            "remove them, or give the depth of the whole transcriptome with data.depth_key=..."
        )
    size_factor: np.ndarray = screen.depth / np.median(screen.depth[fitted])
    return size_factor


def _with_phases(screen: Screen, size_factor: np.ndarray, role: np.ndarray, gene_list: str | None) -> Screen:
    if gene_list is None:
        return screen
    if screen.phase is not None:
        raise MismatchError("phases come from data.phase_key and from data.phase_genes: give one of them.")
    if screen.scale == "log2fc":
        raise MismatchError("cell-cycle phases cannot be scored on fold changes: type data.phase_genes=null.")
    logs = log_normalise(screen.expression, size_factor) if screen.scale == "counts" else screen.expression
    s_genes, g2m_genes = read_cell_cycle_genes(gene_list)
    phase = _by_role(role, lambda rows: score_phases(logs[rows], screen.genes.tolist(), s_genes, g2m_genes))
    log.info(
        "cell-cycle phases scored: %s",
        dict(zip(PHASES, np.bincount(phase, minlength=3).tolist(), strict=True)),
    )
    return replace(screen, phase=phase)


def _by_role(role: np.ndarray, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Scores `[N]` that depend on the mean expression of the cells scored together.

    Fitted cells are scored among themselves, each held-out role with them: no test cell moves the phase of another.
    """
    fitted = np.isin(role, ("train", "control"))
    scores = np.empty(role.size, dtype=np.int64)
    scores[fitted] = score(fitted)
    for held_out in sorted(set(role[~fitted])):
        rows = fitted | (role == held_out)
        scores[role == held_out] = score(rows)[~fitted[rows]]
    return scores


def _with_top_genes(screen: Screen, size_factor: np.ndarray, fitted: np.ndarray, n_top: int | None) -> Screen:
    """Return the most variable genes of the fitted rows ∪ the perturbed genes."""
    if n_top is None or n_top >= screen.n_genes:
        return screen
    if screen.scale == "log2fc":
        raise MismatchError("variable genes cannot be chosen on fold changes: type data.n_top_genes=null.")
    import scanpy as sc
    from anndata import AnnData

    logs = log_normalise(screen.expression, size_factor) if screen.scale == "counts" else screen.expression
    with threads.kept():
        table = sc.pp.highly_variable_genes(AnnData(logs[fitted]), n_top_genes=n_top, flavor="seurat", inplace=False)
    perturbed = {target for name in screen.perturbations for target in members(name)}
    keep = table["highly_variable"].to_numpy(dtype=bool) | np.isin(screen.genes, sorted(perturbed))
    log.info("kept %d of %d genes: the %d most variable and the perturbed ones.", keep.sum(), screen.n_genes, n_top)
    return screen.take_genes(keep)


def _normalised(screen: Screen, size_factor: np.ndarray) -> Screen:
    if screen.scale != "counts":
        raise MismatchError(
            f"data.normalize=true turns counts into log1p, but the data are on the scale {screen.scale}: "
            "type data.normalize=false."
        )
    log.info("counts were turned into log1p of counts at the median depth (data.normalize=true).")
    return replace(screen, expression=log_normalise(screen.expression, size_factor), scale="log1p")


def _training_profiles(
    screen: Screen, size_factor: np.ndarray, split: SplitTable, role: np.ndarray, options: DesignOptions
) -> tuple[TrainingProfiles, dict[str, Any]]:
    units, validation_units = _units_with(screen, split, "train"), _units_with(screen, split, "val")
    values = unit_profiles(screen, size_factor, units)
    control = control_profiles(screen, size_factor, role == "control")
    effects = values - control[units.context]
    genes, missing_genes = gene_rows(options.gene_embedding, screen, effects)
    table = table_of(options.perturbation_embedding, screen, effects)
    targets, missing_targets = perturbation_rows(options.perturbation_embedding, table, screen)
    if missing_targets:
        log.warning(
            "%d perturbed targets have no row in the perturbation embedding and get '%s': %s",
            len(missing_targets), options.perturbation_embedding.fallback, ", ".join(missing_targets[:12]),
        )  # fmt: skip
    notes = {
        "genes_without_embedding": missing_genes,
        "targets_without_embedding": missing_targets,
        "embedding_fallback": options.perturbation_embedding.fallback,
    }
    training = TrainingProfiles(
        perturbations=screen.perturbations,
        genes=screen.genes,
        scale=PROFILE_SCALES[screen.scale],
        units=units,
        values=values,
        validation_units=validation_units,
        validation_values=unit_profiles(screen, size_factor, validation_units),
        control=control,
        gene_embedding=genes,
        perturbation_embedding=targets,
        target_table=table,
    )
    return training, notes
