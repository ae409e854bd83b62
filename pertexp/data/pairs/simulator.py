"""Simulated pairs with known truth: planted motifs, a grammar that all cell lines share, and gates of each cell line.

    logit P(y = 1) = effect · Σ_ab gate[c, a] · E[i, a] · W[a, b] · P[j, b] + leak_j

E and P mark which motifs an enhancer and a promoter hold. W is the grammar: which enhancer motif goes with which
promoter motif (+1) and which against it (-1); its rows and columns sum to zero, so neither element alone tells the
label. A line gates an enhancer motif: leaves it as it is (1), scales it down (0.2) or flips it (-1), and holds it the
more often the higher the gate, so that the gates of an unseen line can be read off its unlabelled sequences.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pertexp.config.errors import RequestError
from pertexp.data.pairs.pairs import Elements, Pairs
from pertexp.data.pairs.tokens import TokenStore, decode, reverse_complement

CHROMOSOMES = (*(f"chr{number}" for number in range(1, 23)), "chrX")
GATES = (-1.0, 0.2)
SPACING = 10_000
PROMOTER_FREQUENCY = 0.4
ENHANCER_FREQUENCY = 0.35
FEWEST_CHANGES = 4  # letters by which two motifs differ at least, on either strand


@dataclass(frozen=True, eq=False)
class SimulatedPairTruth:
    """What was planted.

    Attributes
    ----------
    enhancer_motifs, promoter_motifs
        `[K]` words, each lying on either strand.
    grammar
        W `[K, K]`: +1 with, -1 against each other.
    gate
        `[C, K]` factor of the enhancer motifs in each line.
    frequency
        `[C, K]` share of the enhancers of a line that hold a motif.
    logit
        `[N]` what grammar and gates say of each pair.
    expected
        `[N]` P(y = 1) given both sequences and the line: noise and the element's own leak averaged over. It is the
        best that can be said of elements that were never met.
    probability
        `[N]` P(y = 1) that the label was drawn with, the leak known.
    """

    enhancer_motifs: tuple[str, ...]
    promoter_motifs: tuple[str, ...]
    grammar: np.ndarray
    gate: np.ndarray
    frequency: np.ndarray
    logit: np.ndarray
    expected: np.ndarray
    probability: np.ndarray

    def take(self, pairs: np.ndarray, lines: np.ndarray) -> "SimulatedPairTruth":
        """Keep the truth of some pairs (mask or indices) and lines."""
        return replace(
            self,
            gate=self.gate[lines],
            frequency=self.frequency[lines],
            logit=self.logit[pairs],
            expected=self.expected[pairs],
            probability=self.probability[pairs],
        )

    def ceiling(self, pairs: np.ndarray | slice = slice(None)) -> dict[str, float]:
        """`auroc`, `auprc` and `prevalence` to be expected of the best predictor on these pairs (mask or indices)."""
        return bayes_ceiling(self.expected[pairs])


@dataclass(frozen=True)
class SimulatedPairs:
    """What to simulate; call it to get the pairs.

    Attributes
    ----------
    n_lines, n_pairs
        Cell lines, and pairs of each.
    n_enhancers, n_promoters
        Elements of each line, dealt over 23 chromosomes; pairs are drawn from those of one chromosome.
    n_motifs, motif_length
        Motifs of enhancers, and as many of promoters (an even number), and the bases of each.
    enhancer_length, promoter_length
        Shortest and longest element, in bases.
    effect
        Logit of one motif that goes with another; 0 leaves the grammar out.
    gated_share
        Share of motifs that a line scales or flips; 0 leaves the gates out.
    enrichment
        How much more often a motif is held with gate 1 than with gate 0.
    noise
        Share of labels that are drawn by a fair coin.
    leak
        Standard deviation of each promoter's own logit, which no sequence shows: it can be remembered, not predicted.
    null_version
        Neither grammar nor gates: nothing is to be found.
    seed
        Equal fields and seed give equal pairs.
    """

    n_lines: int = 10
    n_pairs: int = 1000
    n_enhancers: int = 230
    n_promoters: int = 161
    n_motifs: int = 6
    motif_length: int = 10
    enhancer_length: tuple[int, int] = (200, 400)
    promoter_length: tuple[int, int] = (200, 400)
    effect: float = 2.0
    gated_share: float = 0.6
    enrichment: float = 0.2
    noise: float = 0.05
    leak: float = 0.0
    null_version: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_lines", "n_pairs", "n_enhancers", "n_promoters"):
            self._need(name, getattr(self, name) >= 1, "1 or more")
        for name in ("effect", "leak"):
            self._need(name, getattr(self, name) >= 0, "0 or more")
        for name in ("gated_share", "noise"):
            self._need(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        self._need("n_motifs", self.n_motifs >= 2 and self.n_motifs % 2 == 0, "an even number from 2")
        self._need("motif_length", 8 <= self.motif_length <= 20, "8 to 20")
        self._need("enrichment", 0 <= self.enrichment <= ENHANCER_FREQUENCY, f"0 to {ENHANCER_FREQUENCY}")
        least = self.n_motifs * self.motif_length
        for name in ("enhancer_length", "promoter_length"):
            low, high = getattr(self, name)
            self._need(name, least <= low <= high, f"two ascending lengths from {least}, which hold all motifs")
        n_possible = int((_per_chromosome(self.n_enhancers) * _per_chromosome(self.n_promoters)).sum())
        self._need(
            "n_pairs", self.n_pairs <= n_possible, f"at most {n_possible}, the pairs of one chromosome that there are"
        )

    def _need(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise RequestError(f"Simulated pairs: {name}={getattr(self, name)} was asked for; give {expected}.")

    def __call__(self) -> Pairs:
        """Simulate the pairs, with their `SimulatedPairTruth` in `truth`."""
        return simulate_pairs(self)


@dataclass(frozen=True)
class _Side:
    """The enhancers, or the promoters, of all lines: those of line c are rows c · n to (c + 1) · n."""

    tokens: list[np.ndarray]
    motifs: np.ndarray
    chromosome: np.ndarray
    number: np.ndarray


def simulate_pairs(config: SimulatedPairs) -> Pairs:
    """Draw motifs, grammar and gates, then the elements, then pairs and labels, each from a seed of its own.

    Raises
    ------
    RequestError
        From `SimulatedPairs`, for a field out of its range.
    """
    seeds = [np.random.default_rng(child) for child in np.random.SeedSequence(config.seed).spawn(5)]
    words = _motifs(config, seeds[0])
    grammar, gate = _grammar(config.n_motifs, seeds[0]), _gates(config, seeds[1])
    frequency = np.clip(ENHANCER_FREQUENCY + config.enrichment * gate, 0, 1)
    level = np.full((config.n_lines, config.n_motifs), PROMOTER_FREQUENCY)
    enhancers = _elements(words[0], frequency, config.n_enhancers, config.enhancer_length, seeds[2])
    promoters = _elements(words[1], level, config.n_promoters, config.promoter_length, seeds[3])
    line, enhancer, promoter = _pair_off(config, seeds[4])
    effect = 0.0 if config.null_version else config.effect
    gated = enhancers.motifs[enhancer] * gate[line]
    logit = effect * np.einsum("na,ab,nb->n", gated, grammar, promoters.motifs[promoter])
    own = config.leak * seeds[4].normal(size=len(promoters.tokens))[promoter]
    probability = _with_noise(_sigmoid(logit + own), config.noise)
    truth = SimulatedPairTruth(
        enhancer_motifs=tuple(decode(word) for word in words[0]),
        promoter_motifs=tuple(decode(word) for word in words[1]),
        grammar=grammar,
        gate=gate,
        frequency=frequency,
        logit=logit,
        expected=_with_noise(_averaged(logit, config.leak), config.noise),
        probability=probability,
    )
    elements = _placed(enhancers, promoters)
    label = (seeds[4].random(len(line)) < probability).astype(np.int64)
    promoter = promoter + len(enhancers.tokens)
    return Pairs(
        elements=elements,
        lines=tuple(f"line{number + 1:02d}" for number in range(config.n_lines)),
        line=line,
        enhancer=enhancer,
        promoter=promoter,
        label=label,
        distance=_distance(elements, enhancer, promoter),
        truth=truth,
        provenance=_provenance(config),
    )


def bayes_ceiling(probability: np.ndarray) -> dict[str, float]:
    """Scores to be expected where P(y = 1) `[N]` is itself the prediction, over draws of the labels.

    AUROC: Σ_i≠j p_i (1 - p_j) [p_i > p_j, half where equal] / Σ_i≠j p_i (1 - p_j). AUPRC: the average precision with
    every pair counted as p of a positive. Both are ratios of expectations, exact as N grows.
    """
    p = np.sort(np.asarray(probability, dtype=np.float64))
    values, first, count = np.unique(p, return_index=True, return_counts=True)
    lost = np.append(0.0, np.cumsum(1 - p))
    below = lost[first]
    inside = count * (1 - values)
    itself = (p * (1 - p)).sum()
    wins = (count * values * (below + inside / 2)).sum() - itself / 2
    chances = p.sum() * (1 - p).sum() - itself
    above = np.append(0.0, np.cumsum(p[::-1]))[len(p) - first]
    precision = above / (len(p) - first)
    return {
        "auroc": float(wins / chances) if chances > 0 else float("nan"),
        "auprc": float((count * values * precision).sum() / p.sum()) if p.sum() > 0 else float("nan"),
        "prevalence": float(p.mean()),
    }


def _motifs(config: SimulatedPairs, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return words that differ from one another, and from their other strands, in several letters."""
    words: list[np.ndarray] = []
    strands: list[np.ndarray] = []
    while len(words) < 2 * config.n_motifs:
        word = rng.integers(0, 4, config.motif_length).astype(np.uint8)
        other = reverse_complement(word)
        if all((word != known).sum() >= FEWEST_CHANGES for known in [*strands, other]):
            words.append(word)
            strands += [word, other]
    return words[: config.n_motifs], words[config.n_motifs :]


def _grammar(n_motifs: int, rng: np.random.Generator) -> np.ndarray:
    """Return a matrix of +1 and -1 whose rows and columns sum to zero."""
    row = np.repeat([1.0, -1.0], n_motifs // 2)
    turned = np.stack([np.roll(row, shift) for shift in range(n_motifs)])
    return turned[rng.permutation(n_motifs)][:, rng.permutation(n_motifs)]


def _gates(config: SimulatedPairs, rng: np.random.Generator) -> np.ndarray:
    shape = (config.n_lines, config.n_motifs)
    gated = rng.random(shape) < config.gated_share
    drawn = rng.choice(GATES, shape)
    return np.where(gated & (not config.null_version), drawn, 1.0)


def _elements(
    words: list[np.ndarray], frequency: np.ndarray, per_line: int, lengths: tuple[int, int], rng: np.random.Generator
) -> _Side:
    """Random bases, and in a place of its own, on either strand, each motif that the element holds."""
    n_lines = len(frequency)
    motifs = rng.random((n_lines * per_line, len(words))) < np.repeat(frequency, per_line, axis=0)
    tokens = []
    for held in motifs:
        bases = rng.integers(0, 4, rng.integers(lengths[0], lengths[1] + 1)).astype(np.uint8)
        width = len(bases) // len(words)
        for part, number in enumerate(rng.permutation(len(words))):
            word = words[number] if rng.random() < 0.5 else reverse_complement(words[number])
            start = part * width + rng.integers(0, width - len(word) + 1)
            if held[number]:
                bases[start : start + len(word)] = word
        tokens.append(bases)
    order = np.tile(np.arange(per_line), n_lines)
    return _Side(tokens, motifs.astype(float), order % len(CHROMOSOMES), np.arange(n_lines * per_line))


def _per_chromosome(per_line: int) -> np.ndarray:
    return np.bincount(np.arange(max(per_line, 0)) % len(CHROMOSOMES), minlength=len(CHROMOSOMES))


def _pair_off(config: SimulatedPairs, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line, enhancer and promoter `[N]`: distinct pairs of one line and chromosome."""
    enhancer, promoter = (place.ravel() for place in np.indices((config.n_enhancers, config.n_promoters)))
    together = np.flatnonzero(enhancer % len(CHROMOSOMES) == promoter % len(CHROMOSOMES))
    drawn = [np.sort(rng.choice(together, config.n_pairs, replace=False)) for _ in range(config.n_lines)]
    line = np.repeat(np.arange(config.n_lines), config.n_pairs)
    chosen = np.concatenate(drawn)
    return line, enhancer[chosen] + line * config.n_enhancers, promoter[chosen] + line * config.n_promoters


def _placed(enhancers: _Side, promoters: _Side) -> Elements:
    """Return all elements, each at a place of its own on its chromosome."""
    tokens = [*enhancers.tokens, *promoters.tokens]
    lengths = np.array([bases.size for bases in tokens], dtype=np.int64)
    number = np.concatenate([2 * enhancers.number, 2 * promoters.number + 1])
    start = SPACING * (number + 1)
    names = [f"E{place:05d}" for place in enhancers.number] + [f"P{place:05d}" for place in promoters.number]
    return Elements(
        names=np.array(names),
        store=TokenStore(np.concatenate(tokens), np.cumsum(lengths) - lengths, lengths),
        chromosome=np.array(CHROMOSOMES)[np.concatenate([enhancers.chromosome, promoters.chromosome])],
        start=start,
        end=start + lengths,
    )


def _distance(elements: Elements, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    gap = np.maximum(elements.start[other] - elements.end[one], elements.start[one] - elements.end[other])
    distance: np.ndarray = np.maximum(gap, 0).astype(np.float64)
    return distance


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    probability: np.ndarray = 1 / (1 + np.exp(-logit))
    return probability


def _with_noise(probability: np.ndarray, noise: float) -> np.ndarray:
    return (1 - noise) * probability + noise / 2


def _averaged(logit: np.ndarray, sd: float) -> np.ndarray:
    """Return the mean of σ(logit + sd · z) over a standard normal z, by 41 points of Gauss-Hermite."""
    if sd == 0:
        return _sigmoid(logit)
    points, weights = np.polynomial.hermite_e.hermegauss(41)
    average: np.ndarray = _sigmoid(logit[:, None] + sd * points) @ weights / weights.sum()
    return average


def _provenance(config: SimulatedPairs) -> dict[str, Any]:
    fields = dict(vars(config))
    lengths = {name: list(fields[name]) for name in ("enhancer_length", "promoter_length")}
    return {"source": "simulated", **fields, **lengths}
