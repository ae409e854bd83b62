"""The six metrics of the Virtual Cell Challenge 2026, on counts; tests check the values against cell-eval2 0.20.0.

Real controls on both sides. Profiles are group sums, log1p(5e4 Σ_c y_cg / Σ_cg y_cg): a mean of per-cell logs falls
with the dispersion of the cells, so no prediction without dispersion could meet it. Differential expression is Wilcoxon
on counts per million among genes that control cells express (mean CPM > 5), adjusted after that gate; fold changes are
log2 ratios of arithmetic means. A perturbation's own target genes are left out throughout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pertexp.metrics.cells import Cells, rescaled
from pertexp.metrics.differential import SIGNIFICANT, benjamini_hochberg, wilcoxon
from pertexp.metrics.metric import Metric, table
from pertexp.metrics.output import OF_COUNTS

TARGET_SUM = 5e4
MILLION = 1e6
GATE = 5.0  # mean counts per million of control cells above which a gene is tested
PSEUDO = 1e-9
PURITY = 0.9
FEWEST_GENES = 10
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class CountSummary:
    """The real or the predicted cells, summed up.

    Attributes
    ----------
    bulk, control
        `[U, G]` and `[G]` log1p of group sums at 5e4.
    jackknife, control_jackknife
        `[U, G]` and `[G]` delete-one-cell jackknife variance of them.
    p, fdr, lfc
        `[U, G]` p-values, adjusted p-values and log2 fold changes; NaN p-values where the gene was not tested.
    """

    bulk: np.ndarray
    control: np.ndarray
    jackknife: np.ndarray
    control_jackknife: np.ndarray
    p: np.ndarray
    fdr: np.ndarray
    lfc: np.ndarray


@dataclass(frozen=True, eq=False)
class CountView:
    """Truth and prediction, and what is known of the units.

    Attributes
    ----------
    own
        `[U, G]` the gene is a target of the unit.
    genes
        `[G]` names, which break ties.
    effect_size
        Mean of D_p (see `expr_mse_unbiased_capped_norm`); that of the units at hand where None.
    """

    truth: CountSummary
    prediction: CountSummary
    own: np.ndarray
    genes: np.ndarray
    effect_size: float | None = None

    @cached_property
    def significant(self) -> tuple[np.ndarray, np.ndarray]:
        """`[U, G]` significant genes of truth and of the prediction, own targets left out."""
        return (self.truth.fdr < SIGNIFICANT) & ~self.own, (self.prediction.fdr < SIGNIFICANT) & ~self.own

    @cached_property
    def adjudicated(self) -> np.ndarray:
        """`[U, G]` genes whose true fold change has a sign to compare with."""
        tested = ~np.isnan(self.truth.p) & ~np.isnan(self.prediction.p)
        adjudicated: np.ndarray = tested & (self.truth.lfc != 0) & np.isfinite(self.truth.lfc) & ~self.own
        return adjudicated

    @cached_property
    def agree(self) -> np.ndarray:
        """`[U, G]` adjudicated genes whose predicted fold change has the true sign."""
        agree: np.ndarray = self.adjudicated & (np.sign(self.truth.lfc) == np.sign(self.prediction.lfc))
        return agree


def summarise(cells: Cells) -> CountSummary:
    """Sum up one side of counts."""
    bulk, variance = group_sums(cells)
    depth = np.asarray(cells.expression.sum(axis=1, dtype=np.float64)).ravel()
    million = rescaled(cells.expression, np.where(depth > 0, MILLION / np.maximum(depth, 1e-300), 0.0), log=False)
    mean = cells.means(million)
    p = np.where(mean[-1] > GATE, wilcoxon(cells, million), np.nan)
    lfc = np.log2((mean[:-1] + PSEUDO) / (mean[-1] + PSEUDO))
    return CountSummary(bulk[:-1], bulk[-1], variance[:-1], variance[-1], p, benjamini_hochberg(p), lfc)


def group_sums(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Log1p of group sums at 5e4, and their jackknife variance, `[U + 1, G]` each; control last."""
    sums = cells.sums(cells.expression)
    totals = np.maximum(sums.sum(axis=1, keepdims=True), 1e-300)
    return np.log1p(TARGET_SUM * sums / totals), jackknife(cells)


def effect_size_of(cells: Cells, own: np.ndarray) -> float:
    """`mean_effect_size` of real cells of U units, nothing else summed up."""
    bulk, variance = group_sums(cells)
    nothing = np.empty(0)
    side = CountSummary(bulk[:-1], bulk[-1], variance[:-1], variance[-1], nothing, nothing, nothing)
    return mean_effect_size(side, own)


def jackknife(cells: Cells) -> np.ndarray:
    """(n − 1)/n Σ_i (v_i − v̄)² of log1p(5e4 (Y − y_i) / (S − s_i)) over cells i left out, `[U + 1, G]`."""
    out = np.zeros((cells.n_units + 1, cells.expression.shape[1]))
    for unit in range(-1, cells.n_units):
        rows = cells.of(unit)
        if rows.size > 1:
            out[unit] = _jackknife_of(cells.expression[rows].astype(np.float64).toarray())
    return out


def _jackknife_of(counts: np.ndarray) -> np.ndarray:
    n = len(counts)
    total, depth = counts.sum(axis=0), counts.sum(axis=1, keepdims=True)
    first, second = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        left = np.maximum(total.sum() - depth[rows], 1e-300)
        without = np.log1p(TARGET_SUM * (total - counts[rows]) / left)
        first += without.sum(axis=0)
        second += np.square(without).sum(axis=0)
    return (n - 1) / n * np.maximum(second - first**2 / n, 0.0)


def pds_cosine(view: CountView) -> np.ndarray:
    """Mid-rank of the own truth among all truths by cosine distance, targets of the panel left out; divisor P − 1."""
    keep = ~view.own.any(axis=0)
    a = _unit(view.prediction.bulk[:, keep] - view.truth.control[keep])
    b = _unit(view.truth.bulk[:, keep] - view.truth.control[keep])
    distances = 1.0 - a @ b.T
    own = np.diagonal(distances)[:, None]
    rank = (distances < own).sum(axis=1) + ((distances == own).sum(axis=1) - 1) / 2
    return 1.0 - rank / (len(distances) - 1) if len(distances) > 1 else np.full(len(distances), np.nan)


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1.0)


def expr_mse_unbiased_capped_norm(view: CountView) -> np.ndarray:
    """Return Σ N_p / Σ D_p: squared error over squared true effect, both freed of what the sampling of cells adds.

    N_p = (‖b̂ − b‖² − ρ min(Ĉ, C) − C) / G_p and D_p = (‖b − b_0‖² − C − C_0) / G_p, norms over the G_p genes that p
    does not target, jackknife variances C over all genes (as cell-eval2 has it). The correction that a prediction may
    claim for its own sampling, Ĉ, is at most that of truth, and ρ ≤ 1 scales all of them to the spread of the
    prediction over perturbations. Each unit carries N_p over the mean of D.
    """
    use = ~view.own
    n_genes = np.maximum(use.sum(axis=1), 1)
    sampling = view.truth.jackknife.sum(axis=1)
    claimed = np.minimum(view.prediction.jackknife.sum(axis=1), sampling)
    claimed = claimed * _budget(view, claimed, n_genes)
    error = (use * (view.prediction.bulk - view.truth.bulk) ** 2).sum(axis=1) - claimed - sampling
    scale = mean_effect_size(view.truth, view.own) if view.effect_size is None else view.effect_size
    return error / n_genes / scale if scale > 0 else np.full(len(error), np.nan)


def mean_effect_size(truth: CountSummary, own: np.ndarray) -> float:
    """Average D_p over units: what the squared effect per gene is beyond the sampling of cells; may be negative.

    Over few units, or effects near the noise, a ratio to it is unstable: take it over as many units as there are.
    """
    use = ~own
    effect = (use * (truth.bulk - truth.control) ** 2).sum(axis=1) - truth.jackknife.sum(axis=1)
    return float(np.mean((effect - truth.control_jackknife.sum()) / np.maximum(use.sum(axis=1), 1)))


def _budget(view: CountView, claimed: np.ndarray, n_genes: np.ndarray) -> float:
    """ρ: spread of the predicted profiles over perturbations, over the sum of the claims; at most 1."""
    claims = float((claimed / n_genes).sum())
    if claims <= 0:
        return 1.0
    weight = ~view.own / n_genes[:, None]
    total = np.maximum(weight.sum(axis=0), 1e-300)
    mean = (weight * view.prediction.bulk).sum(axis=0) / total
    spread = (weight * (view.prediction.bulk - mean) ** 2).sum()
    return min(1.0, float(spread) / claims)


def direction_fidelity_yield(view: CountView) -> np.ndarray:
    """Sign agreements among the genes called, over the larger of the numbers of called and of truly significant genes.

    0 where nothing is called; NaN where nothing is called and nothing is significant.
    """
    real, predicted = view.significant
    called = predicted & view.adjudicated
    larger = np.maximum(called.sum(axis=1), real.sum(axis=1))
    return np.where(larger > 0, (called & view.agree).sum(axis=1) / np.maximum(larger, 1), np.nan)


def direction_reach(view: CountView) -> np.ndarray:
    """Return how deep the predicted ranking of truly significant genes stays 90 % right in sign, over their number.

    The ranking: called genes first, then adjusted p-value, p-value, size of the fold change, name. NaN where no gene is
    significant.
    """
    real, called = view.significant
    return np.array([_reach(view, unit, real[unit], called[unit]) for unit in range(len(real))])


def _reach(view: CountView, unit: int, real: np.ndarray, called: np.ndarray) -> float:
    n_real = int(real.sum())
    if n_real == 0:
        return np.nan
    genes = np.flatnonzero(real & view.adjudicated[unit])
    side = view.prediction
    keys = (view.genes[genes], -np.abs(side.lfc[unit, genes]), side.p[unit, genes], side.fdr[unit, genes])
    order = np.lexsort((*keys, ~called[genes]))
    purity = np.cumsum(view.agree[unit, genes[order]]) / np.arange(1, genes.size + 1)
    pure = np.flatnonzero(purity >= PURITY)
    return float(pure[-1] + 1) / n_real if pure.size else 0.0


def sig_jaccard(view: CountView) -> np.ndarray:
    """Shared over all significant genes of both sides; 1 where neither has any."""
    real, predicted = view.significant
    union = (real | predicted).sum(axis=1)
    return np.where(union > 0, (real & predicted).sum(axis=1) / np.maximum(union, 1), 1.0)


def lfc_nmae(view: CountView) -> np.ndarray:
    """Return Σ |predicted − true| / Σ |true| of fold changes of truly significant genes; NaN for fewer than 10."""
    real = view.significant[0] & np.isfinite(view.truth.lfc)
    predicted = np.where(np.isnan(view.prediction.p) | ~np.isfinite(view.prediction.lfc), 0.0, view.prediction.lfc)
    size = np.where(real, np.abs(view.truth.lfc), 0.0).sum(axis=1)
    error = np.where(real, np.abs(predicted - view.truth.lfc), 0.0).sum(axis=1)
    enough = (real.sum(axis=1) >= FEWEST_GENES) & (size > 0)
    return np.where(enough, error / np.where(size > 0, size, 1.0), np.nan)


def _row(name: str, function: Callable[[CountView], np.ndarray], best: float, space: str, missing: str = "") -> Metric:
    worst = 0.0 if best == 1.0 else np.inf
    clamp = _CLAMPS.get(name, (-np.inf, np.inf))
    full = f"vcc2026/{name}"
    return Metric(full, function, best, worst, space, space == _DE, missing=missing, level="headline", clamp=clamp)


_BULK, _DE = "effect of group sums", "differential expression"
_CLAMPS = {"expr_mse_unbiased_capped_norm": (0.0, 1.0), "lfc_nmae": (-6.0, np.inf)}
VCC2026: dict[str, Metric] = table(
    _row("pds_cosine", pds_cosine, 1.0, _BULK, "a single perturbation"),
    _row("expr_mse_unbiased_capped_norm", expr_mse_unbiased_capped_norm, 0.0, _BULK, "no true effect beyond sampling"),
    _row("direction_fidelity_yield", direction_fidelity_yield, 1.0, _DE, "no gene called and none significant"),
    _row("direction_reach", direction_reach, 1.0, _DE, "no significant gene"),
    _row("sig_jaccard", sig_jaccard, 1.0, _DE),
    _row("lfc_nmae", lfc_nmae, 0.0, _DE, "fewer than 10 significant genes"),
    scales=OF_COUNTS,  # a mean of logs falls with the dispersion of cells
)
