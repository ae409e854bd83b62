"""A simulated screen with known truth, drawn from the low-rank NB-GLM.

    log mu[i, g] = log mu_ctrl[c(i), g] + effect[p(i), g] + beta[g, phase(i)] + log s[i]
    effect[p] = alpha tanh(G K P_p)
    y ~ NB(mu, theta[g]),  Var y = mu + mu² / theta

after the model of nbglm (gene embedding G, kernel K, perturbation embedding P). A combination has the sum of
its members' rows of P, and where asked for a planted interaction: of its own, or of a few programs that pairs of
susceptible members switch on, so that it can be learnt from other pairs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from pertexp.config.errors import RequestError
from pertexp.data.screens.screen import CONTROL, JOIN, Screen, members

# Cells drawn together, each block from a seed of its own: dense arrays are never larger than this.
BLOCK = 256
PHASE_SHARES = (0.5, 0.25, 0.25)


@dataclass(frozen=True)
class SimulatedTruth:
    """What was planted. Log scales are natural.

    Attributes
    ----------
    gene_embedding, kernel, target_embedding
        G `[G, dg]` and P `[T, dp]` with rows of length one, K `[dg, dp]`.
    target_names
        `[T]` names of the single targets, the rows of P.
    control_mean
        `[C, G]` expected counts of a control cell in G1 with size factor 1, per context.
    theta
        `[G]` inverse dispersion.
    effect
        `[P, G]` shift of log mu per entry of `Screen.perturbations`; row 0 (control) is zero.
    cell_cycle
        `[G, 2]` shift of log mu in S and G2M.
    size_factor, phase
        `[N]` s with median one, and 0 = G1, 1 = S, 2 = G2M (all 0 without a planted cell cycle).
    """

    gene_embedding: np.ndarray
    target_names: tuple[str, ...]
    target_embedding: np.ndarray
    kernel: np.ndarray
    control_mean: np.ndarray
    theta: np.ndarray
    effect: np.ndarray
    cell_cycle: np.ndarray
    size_factor: np.ndarray
    phase: np.ndarray

    def take(self, cells: np.ndarray, perturbations: np.ndarray, contexts: np.ndarray) -> "SimulatedTruth":
        """Keep the truth of some cells (mask or indices) and of the perturbations and contexts they name.

        The size factors stay as planted: their median over the kept cells need not be one.
        """
        return replace(
            self,
            control_mean=self.control_mean[contexts],
            effect=self.effect[perturbations],
            size_factor=self.size_factor[cells],
            phase=self.phase[cells],
        )

    def take_genes(self, genes: np.ndarray) -> "SimulatedTruth":
        """Keep the truth of some genes (mask or indices)."""
        return replace(
            self,
            gene_embedding=self.gene_embedding[genes],
            control_mean=self.control_mean[:, genes],
            theta=self.theta[genes],
            effect=self.effect[:, genes],
            cell_cycle=self.cell_cycle[genes],
        )


@dataclass(frozen=True)
class SimulatedScreen:
    """What to simulate; call it to get the screen.

    Attributes
    ----------
    n_genes, n_perturbations, n_combinations
        Genes, single targets, and pairs of them (distinct, drawn at random).
    cells_per_perturbation, n_controls
        Cells per single or pair, and control cells; both spread evenly over the contexts.
    measured_share
        Share of single targets that are genes of the panel; the others are called `TARGET00001`, ...
    interaction
        Standard deviation, in log mu, of the planted interaction over pairs and genes; 0 plants none.
    interaction_programs
        None: every pair and gene has an interaction of its own, which no other pair tells of. r: there are r programs
        of genes; a combination switches program k on where all its members are susceptible to it, and a member is
        where its planted embedding lies on one side of a random plane.
    n_contexts, context_sd
        Contexts, and the standard deviation of their shifts of log mu_ctrl per gene (with two or more).
    gene_dim, perturbation_dim
        Widths dg and dp of the embeddings.
    effect_sd, alpha
        Standard deviation of the effects of singles before the bound, in log mu, and the bound itself.
    log_theta_mean, log_theta_sd
        Log-normal dispersion theta.
    log_size_sd, median_depth
        Log-normal size factors, and the whole-transcriptome depth, in counts, of a cell with size factor 1.
    mean_range
        Lowest and highest control mean, in counts, log-uniform between.
    cell_cycle_sd
        Standard deviation of the shifts of log mu in S and G2M; 0 leaves phases out.
    seed
        Equal fields and seed give an equal screen.
    """

    n_genes: int = 200
    n_perturbations: int = 60
    cells_per_perturbation: int = 80
    n_controls: int = 800
    n_combinations: int = 12
    measured_share: float = 0.5
    interaction: float = 0.0
    interaction_programs: int | None = None
    n_contexts: int = 1
    context_sd: float = 0.5
    gene_dim: int = 8
    perturbation_dim: int = 16
    effect_sd: float = 0.5
    alpha: float = 2.5
    log_theta_mean: float = 1.0
    log_theta_sd: float = 0.5
    log_size_sd: float = 0.4
    median_depth: float = 10_000.0
    mean_range: tuple[float, float] = (0.02, 2.0)
    cell_cycle_sd: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_genes", "n_perturbations", "cells_per_perturbation", "n_controls", "n_contexts"):
            self._need(name, getattr(self, name) >= 1, "1 or more")
        for name in ("gene_dim", "perturbation_dim"):
            self._need(name, getattr(self, name) >= 1, "1 or more")
        for name in (
            "interaction",
            "context_sd",
            "effect_sd",
            "log_theta_sd",
            "log_size_sd",
            "cell_cycle_sd",
        ):
            self._need(name, getattr(self, name) >= 0, "0 or more")
        for name in ("alpha", "median_depth"):
            self._need(name, getattr(self, name) > 0, "above 0")
        if self.interaction_programs is not None:
            self._need("interaction_programs", self.interaction_programs >= 1, "1 or more, or null")
        pairs = math.comb(self.n_perturbations, 2)
        self._need("n_combinations", 0 <= self.n_combinations <= pairs, f"0 to {pairs}, the number of pairs")
        self._need("measured_share", 0 <= self.measured_share <= 1, "0 to 1")
        self._need("mean_range", 0 < self.mean_range[0] <= self.mean_range[1], "two ascending means above 0")

    def _need(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise RequestError(f"Simulated screen: {name}={getattr(self, name)} was asked for; give {expected}.")

    def __call__(self) -> Screen:
        """Simulate the screen, with its `SimulatedTruth` in `truth`."""
        return simulate_screen(self)


@dataclass(frozen=True)
class _Cells:
    """Perturbation, context and size factor of every cell, `[N]` each."""

    perturbation: np.ndarray
    context: np.ndarray
    phase: np.ndarray
    size_factor: np.ndarray


def simulate_screen(config: SimulatedScreen) -> Screen:
    """Draw the planted parameters, then the cells, then the counts.

    Counts are drawn in blocks of 256 cells, each from its own child seed, straight into one sparse matrix:
    the memory needed is that matrix, the `[P, G]` effects and one dense block.

    Raises
    ------
    RequestError
        From `SimulatedScreen`, for a field out of its range.
    """
    parameters, layout, counts, programs = np.random.SeedSequence(config.seed).spawn(4)
    rng = np.random.default_rng(parameters)
    genes = np.array([f"GENE{number:05d}" for number in range(1, config.n_genes + 1)])
    targets = _targets(config, genes, rng)
    perturbations = (CONTROL, *sorted([*targets, *_pairs(config, targets, rng)]))
    cells = _layout(config, perturbations, np.random.default_rng(layout))
    truth = _plant(config, targets, perturbations, cells, rng, np.random.default_rng(programs))
    return Screen(
        expression=_draw(truth, cells, counts),
        scale="counts",
        genes=genes,
        perturbations=perturbations,
        perturbation=cells.perturbation,
        contexts=tuple(f"context{number}" for number in range(1, config.n_contexts + 1)),
        context=cells.context,
        depth=config.median_depth * cells.size_factor,
        phase=cells.phase if config.cell_cycle_sd > 0 else None,
        truth=truth,
        provenance=_provenance(config),
    )


def _targets(config: SimulatedScreen, genes: np.ndarray, rng: np.random.Generator) -> tuple[str, ...]:
    measured = min(round(config.measured_share * config.n_perturbations), len(genes))
    inside = rng.choice(genes, measured, replace=False).tolist()
    outside = [f"TARGET{number:05d}" for number in range(1, config.n_perturbations - measured + 1)]
    return (*sorted(inside), *outside)


def _pairs(config: SimulatedScreen, targets: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    first, second = np.triu_indices(len(targets), 1)
    chosen = rng.choice(max(len(first), 1), config.n_combinations, replace=False)
    return [JOIN.join(sorted((targets[first[place]], targets[second[place]]))) for place in chosen]


def _layout(config: SimulatedScreen, perturbations: tuple[str, ...], rng: np.random.Generator) -> _Cells:
    """Lay out the cells in random order; each perturbation is spread evenly over the contexts."""
    sizes = [config.n_controls, *[config.cells_per_perturbation] * (len(perturbations) - 1)]
    perturbation = np.repeat(np.arange(len(sizes)), sizes)
    context = np.concatenate([np.arange(size) for size in sizes]) % config.n_contexts
    order = rng.permutation(len(perturbation))
    phase = rng.choice(3, len(order), p=PHASE_SHARES) if config.cell_cycle_sd > 0 else np.zeros(len(order))
    size_factor = np.exp(rng.normal(0.0, config.log_size_sd, len(order)))
    return _Cells(
        perturbation=perturbation[order],
        context=context[order],
        phase=phase.astype(np.int64),
        size_factor=size_factor / np.median(size_factor),
    )


def _plant(
    config: SimulatedScreen,
    targets: tuple[str, ...],
    perturbations: tuple[str, ...],
    cells: _Cells,
    rng: np.random.Generator,
    program_rng: np.random.Generator,
) -> SimulatedTruth:
    gene_embedding = _unit_rows(rng, config.n_genes, config.gene_dim)
    target_embedding = _unit_rows(rng, len(targets), config.perturbation_dim)
    # With unit rows, an entry of G K P has the standard deviation of an entry of K.
    kernel = rng.normal(0.0, config.effect_sd / config.alpha, (config.gene_dim, config.perturbation_dim))
    membership = _membership(targets, perturbations)
    effect = config.alpha * np.tanh(membership @ target_embedding @ kernel.T @ gene_embedding.T)
    combined = membership.sum(axis=1) > 1
    of_pairs = rng.normal(0.0, config.interaction, (int(combined.sum()), config.n_genes))
    if config.interaction_programs is not None and combined.any():
        of_pairs = _programs(config, membership[combined], target_embedding, program_rng)
    effect[combined] += of_pairs
    return SimulatedTruth(
        gene_embedding=gene_embedding,
        target_names=targets,
        target_embedding=target_embedding,
        kernel=kernel,
        control_mean=_control_mean(config, rng),
        theta=np.exp(rng.normal(config.log_theta_mean, config.log_theta_sd, config.n_genes)),
        effect=effect,
        cell_cycle=rng.normal(0.0, config.cell_cycle_sd, (config.n_genes, 2)),
        size_factor=cells.size_factor,
        phase=cells.phase,
    )


def _programs(
    config: SimulatedScreen, membership: np.ndarray, target_embedding: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Interaction `[pairs, G]` of the programs that combinations switch on, scaled to the standard deviation asked."""
    n_programs = config.interaction_programs or 0
    planes = rng.normal(size=(target_embedding.shape[1], n_programs))
    susceptible = (target_embedding @ planes > 0).astype(float)
    switched = (membership @ susceptible == membership.sum(axis=1, keepdims=True)).astype(float)
    interaction = switched @ rng.normal(size=(n_programs, config.n_genes))
    spread = np.sqrt(np.mean(interaction**2))
    scaled: np.ndarray = interaction * (config.interaction / spread if spread > 0 else 0.0)
    return scaled


def _unit_rows(rng: np.random.Generator, rows: int, width: int) -> np.ndarray:
    drawn = rng.normal(size=(rows, width))
    unit: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


def _membership(targets: tuple[str, ...], perturbations: tuple[str, ...]) -> np.ndarray:
    """Mark the members of each perturbation, `[P, T]`."""
    place = {target: column for column, target in enumerate(targets)}
    marks = np.zeros((len(perturbations), len(targets)))
    for row, name in enumerate(perturbations):
        marks[row, [place[member] for member in members(name)]] = 1.0
    return marks


def _control_mean(config: SimulatedScreen, rng: np.random.Generator) -> np.ndarray:
    low, high = np.log(config.mean_range[0]), np.log(config.mean_range[1])
    context_sd = config.context_sd if config.n_contexts > 1 else 0.0
    shift = rng.normal(0.0, context_sd, (config.n_contexts, config.n_genes))
    return np.exp(rng.uniform(low, high, config.n_genes) + shift)


def _draw(truth: SimulatedTruth, cells: _Cells, seed: np.random.SeedSequence) -> sp.csr_matrix:
    """Draw the counts block by block into arrays that grow in place, so that they exist once."""
    n_cells, n_genes = len(cells.perturbation), len(truth.theta)
    data, indices = np.empty(0, np.float32), np.empty(0, np.int32)
    starts = [np.zeros(1, np.int64)]
    for block in _blocks(truth, cells, seed):
        filled = len(data)
        for whole, part in ((data, block.data), (indices, block.indices)):
            whole.resize(filled + block.nnz, refcheck=False)
            whole[filled:] = part
        starts.append(filled + block.indptr[1:].astype(np.int64))
    return sp.csr_matrix((data, indices, np.concatenate(starts)), shape=(n_cells, n_genes))


def _blocks(truth: SimulatedTruth, cells: _Cells, seed: np.random.SeedSequence) -> Iterator[sp.csr_matrix]:
    edges = [*range(0, len(cells.perturbation), BLOCK), len(cells.perturbation)]
    log_control = np.log(truth.control_mean)
    cycle = np.vstack([np.zeros(len(truth.theta)), truth.cell_cycle.T])
    for (start, stop), child in zip(pairwise(edges), seed.spawn(len(edges) - 1), strict=True):
        at = slice(start, stop)
        log_mu = log_control[cells.context[at]] + truth.effect[cells.perturbation[at]]
        log_mu += cycle[cells.phase[at]] + np.log(cells.size_factor[at])[:, None]
        rng = np.random.default_rng(child)
        # NB as a Poisson whose rate is Gamma with mean mu and shape theta.
        rate = rng.standard_gamma(truth.theta, log_mu.shape) * np.exp(log_mu) / truth.theta
        yield sp.csr_matrix(rng.poisson(rate).astype(np.float32))


def _provenance(config: SimulatedScreen) -> dict[str, Any]:
    fields = dict(vars(config))
    return {"source": "simulated", **fields, "mean_range": [float(mean) for mean in config.mean_range]}
