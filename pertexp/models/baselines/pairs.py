"""Baselines of pairs. They are fitted on training pairs alone; none is a network."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from pertexp.config.errors import RequestError
from pertexp.data.pairs.design import PairDesign
from pertexp.data.pairs.pairs import NO_PLACE, Elements, Pairs
from pertexp.data.pairs.tokens import UNKNOWN
from pertexp.models.protocols import MayBeUnfair, PairBaseline

C, G = 1, 2
BASES = 4
FOLDS = 5  # of training pairs, to choose a penalty
PENALTIES = (1, 10, 100, 1000, 10000, 100000)


def why_not_counted(baseline: PairBaseline, design: PairDesign) -> str | None:
    """Why a baseline is shown and not counted on this data; None where it counts."""
    return baseline.unfair(design) if isinstance(baseline, MayBeUnfair) else None


class Prevalence:
    """Every pair has the share of positives among the training pairs."""

    def fit(self, design: PairDesign) -> Self:
        """Count."""
        self._share = _prevalence(design)
        return self

    def predict(self, design: PairDesign, rows: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Return `[n]` one number."""
        return np.full(rows.size, self._share)


class Distance:
    """Logistic regression on the log of the bases between the elements; the prevalence where they are not known."""

    def fit(self, design: PairDesign) -> Self:
        """Fit on the training pairs whose distance is known."""
        self._share = _prevalence(design)
        train = design.index("train")
        train = train[np.isfinite(design.pairs.distance[train])]
        both = np.unique(design.pairs.label[train]).size == 2
        self._fitted = _logistic(self._features(design.pairs, train), design.pairs.label[train]) if both else None
        return self

    def predict(self, design: PairDesign, rows: np.ndarray) -> np.ndarray:
        """Return `[n]`."""
        found = np.full(rows.size, self._share)
        known = np.isfinite(design.pairs.distance[rows])
        if self._fitted is not None and known.any():
            found[known] = self._fitted.predict_proba(self._features(design.pairs, rows[known]))[:, 1]
        return found

    def unfair(self, design: PairDesign) -> str | None:
        """Where negatives were drawn farther apart than positives, and where distances are not known."""
        pairs = design.pairs
        if pairs.provenance.get("negatives_drawn_farther"):
            return (
                "the negatives of this data were made by pairing elements anew, which drew them farther apart than the "
                "positives, so distance gives the label away and says nothing of biology"
            )
        lacking = ~np.isfinite(pairs.distance[np.concatenate([design.index("train"), design.index("test")])])
        return "the data have no distances, so it says the prevalence" if lacking.all() else None

    @staticmethod
    def _features(pairs: Pairs, rows: np.ndarray) -> np.ndarray:
        features: np.ndarray = np.log1p(pairs.distance[rows])[:, None]
        return features


class PromoterRate:
    """The share of positives among the training pairs of the promoter, whatever the enhancer and the line.

    Promoters that overlap are one place: the same gene has a region of its own in every line. A place that was never
    trained on has the prevalence.

    Parameters
    ----------
    prior
        Pairs of the prevalence that are added to those of every place.
    """

    def __init__(self, prior: float = 1.0) -> None:
        if prior <= 0:
            raise RequestError(f"prior={prior}: expected a number of pairs above 0.")
        self._prior = prior

    def fit(self, design: PairDesign) -> Self:
        """Count by place."""
        pairs, train = design.pairs, design.index("train")
        share = _prevalence(design)
        promoters = np.unique(pairs.promoter)
        self._place = np.zeros(len(pairs.elements), dtype=np.int64)
        self._place[promoters] = same_place(pairs.elements, promoters)
        place = self._place[pairs.promoter[train]]
        counts = np.bincount(place, minlength=promoters.size)
        ones = np.bincount(place, weights=pairs.label[train], minlength=promoters.size)
        self._rate = (ones + self._prior * share) / (counts + self._prior)
        return self

    def predict(self, design: PairDesign, rows: np.ndarray) -> np.ndarray:
        """Return `[n]`."""
        rates: np.ndarray = self._rate[self._place[design.pairs.promoter[rows]]]
        return rates


class _OfElements:
    """Logistic regression on standardised features of both elements.

    It minimises Σ log loss + ½ λ ‖w‖² over the training pairs. Of several penalties λ, the one with the lowest log loss
    on held-out training pairs is taken: those of whole chromosomes, or of whole promoters where no chromosome is known,
    in up to five folds. Where the training pairs have one label or equal features, every pair has the prevalence.

    Parameters
    ----------
    penalties
        λ, each above 0.
    """

    def __init__(self, penalties: Sequence[float] = (1.0,)) -> None:
        if not penalties or min(penalties) <= 0:
            raise RequestError(f"penalties={list(penalties)}: expected numbers above 0, such as [1,100,10000].")
        self._penalties = sorted(penalties, reverse=True)

    def fit(self, design: PairDesign) -> Self:
        """Choose the penalty and fit, both on the training pairs."""
        train = design.index("train")
        features, label = _of_both(design.pairs, self._features(design.pairs), train), design.pairs.label[train]
        self._share, self._fitted = _prevalence(design), None
        if np.unique(label).size == 2 and np.ptp(features, axis=0).any():
            penalty = _best_penalty(self._penalties, features, label, _groups(design.pairs, train))
            self._fitted = _logistic(features, label, penalty)
        return self

    def predict(self, design: PairDesign, rows: np.ndarray) -> np.ndarray:
        """Return `[n]`."""
        if self._fitted is None or not rows.size:
            return np.full(rows.size, self._share)
        found: np.ndarray = self._fitted.predict_proba(_of_both(design.pairs, self._features(design.pairs), rows))[:, 1]
        return found

    def _features(self, pairs: Pairs) -> np.ndarray:
        """Return `[M, F]` features of the elements."""
        raise NotImplementedError


class GcCpg(_OfElements):
    """Logistic regression on the GC content and the observed over expected CpG of both elements.

    Observed over expected: (CpG / (L - 1)) / (C / L · G / L), in an element of L known bases.
    """

    def _features(self, pairs: Pairs) -> np.ndarray:
        single, double = (word_frequencies(pairs.elements, length) for length in (1, 2))
        gc = single[:, C] + single[:, G]
        expected = single[:, C] * single[:, G]
        cpg = double[:, C * BASES + G] / np.where(expected > 0, expected, 1.0)
        return np.stack([gc, cpg], axis=1)


class Composition(_OfElements):
    """Logistic regression on the shares of single bases and of dinucleotides in both elements, on either strand.

    A word and its reverse complement are one: (G + C) / L and the 10 shares of dinucleotides among those of two known
    bases, (AA + TT) / D, (AC + GT) / D, ..., with AT, CG, GC and TA alone. No expected counts are divided by, as
    `GcCpg` does.

    Parameters
    ----------
    penalties
        λ, each above 0.
    """

    def __init__(self, penalties: Sequence[float] = PENALTIES) -> None:
        super().__init__(penalties)

    def _features(self, pairs: Pairs) -> np.ndarray:
        single, double = (folded(word_frequencies(pairs.elements, k), k) for k in (1, 2))
        return np.concatenate([single[:, C:], double], axis=1)


class KmerLogistic(_OfElements):
    """Logistic regression on the shares of words of k bases in both elements, a word and its reverse complement as one.

    Parameters
    ----------
    k
        Bases of a word.
    penalties
        λ, each above 0.
    """

    def __init__(self, k: int = 4, penalties: Sequence[float] = PENALTIES) -> None:
        super().__init__(penalties)
        self._k = _word_length(k)

    def _features(self, pairs: Pairs) -> np.ndarray:
        return folded(word_frequencies(pairs.elements, self._k), self._k)


class ElementLength(_OfElements):
    """Logistic regression on the log of the bases of both elements: their regions, before windows are cut from them.

    It counts wherever regions differ in length: a model sees it too, where shorter elements lie between unknown bases.
    """

    def unfair(self, design: PairDesign) -> str | None:
        """Where all elements of a side have one length."""
        pairs, train = design.pairs, design.index("train")
        enhancers, promoters = (_region_lengths(pairs.elements)[of[train]] for of in (pairs.enhancer, pairs.promoter))
        if np.ptp(enhancers) or np.ptp(promoters):
            return None
        return (
            f"every enhancer has {enhancers[0]} bases and every promoter {promoters[0]} in the training pairs, so it "
            "says the prevalence"
        )

    def _features(self, pairs: Pairs) -> np.ndarray:
        features: np.ndarray = np.log(_region_lengths(pairs.elements))[:, None]
        return features


class KmerBoosting:
    """Gradient boosting on the frequencies of short words in both elements.

    Parameters
    ----------
    k
        Bases of a word.
    both_strands
        Count a word and its reverse complement as one.
    seed
        Of the boosting.
    """

    def __init__(self, k: int = 4, both_strands: bool = False, seed: int = 0) -> None:
        self._k, self._both_strands, self._seed = _word_length(k), both_strands, seed

    def fit(self, design: PairDesign) -> Self:
        """Fit on the training pairs."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        train = design.index("train")
        self._fitted = HistGradientBoostingClassifier(random_state=self._seed)
        self._fitted.fit(self._features(design, train), design.pairs.label[train])
        return self

    def predict(self, design: PairDesign, rows: np.ndarray) -> np.ndarray:
        """Return `[n]`."""
        return self._fitted.predict_proba(self._features(design, rows))[:, 1] if rows.size else np.empty(0)

    def _features(self, design: PairDesign, rows: np.ndarray) -> np.ndarray:
        words = word_frequencies(design.pairs.elements, self._k)
        return _of_both(design.pairs, folded(words, self._k) if self._both_strands else words, rows)


def word_frequencies(elements: Elements, k: int) -> np.ndarray:
    """Count the share `[M, 4^k]` of every word among those of k known bases in each element; zeros without any."""
    counts = np.zeros((len(elements), BASES**k))
    for number in range(len(elements)):
        tokens = elements.store.element(number).astype(np.int64)
        if tokens.size < k:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(tokens, k)
        known = (windows < UNKNOWN).all(axis=1)
        codes = windows[known] @ BASES ** np.arange(k - 1, -1, -1)
        counts[number] = np.bincount(codes, minlength=BASES**k)
    shares: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def folded(words: np.ndarray, k: int) -> np.ndarray:
    """Shares `[M, W]` of the words `[M, 4^k]`, each together with its reverse complement."""
    letters = np.stack(np.unravel_index(np.arange(BASES**k), (BASES,) * k), axis=1)
    other = (BASES - 1 - letters[:, ::-1]) @ BASES ** np.arange(k - 1, -1, -1)
    own = np.arange(BASES**k)
    both = words + words[:, other] * (other != own)
    own_words: np.ndarray = both[:, own <= other]
    return own_words


def same_place(elements: Elements, among: np.ndarray) -> np.ndarray:
    """Give numbers to places of elements `among` `[n]`: those that overlap, directly or in a chain, share a number.

    Without places, elements of one sequence share it.
    """
    if not elements.placed:
        texts = [elements.store.element(number).tobytes() for number in among.tolist()]
        first = {text: number for number, text in reversed(list(enumerate(texts)))}
        return np.array([first[text] for text in texts], dtype=np.int64)
    _, chromosome = np.unique(elements.chromosome[among], return_inverse=True)
    start, end = elements.start[among], elements.end[among]
    order = np.lexsort((start, chromosome))
    # One axis for all chromosomes, so that what was reached on one lies before the next.
    shift = chromosome * (int(end.max(initial=0)) + 1)
    reach = np.maximum.accumulate((end + shift)[order])
    begins = np.append(True, (start + shift)[order][1:] >= reach[:-1])[: order.size]
    place = np.empty(among.size, dtype=np.int64)
    place[order] = np.cumsum(begins) - 1
    return place


def _of_both(pairs: Pairs, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return `[n, 2F]` features of the enhancers and promoters of pairs, from those `[M, F]` of the elements."""
    return np.concatenate([features[pairs.enhancer[rows]], features[pairs.promoter[rows]]], axis=1)


def _prevalence(design: PairDesign) -> float:
    return float(design.pairs.label[design.index("train")].mean())


def _word_length(k: int) -> int:
    if not 1 <= k <= 6:
        raise RequestError(f"k={k}: expected words of 1 to 6 bases.")
    return k


def _region_lengths(elements: Elements) -> np.ndarray:
    """Return `[M]` bases of the regions: between start and end, of the whole sequence where no place is known."""
    return np.where(elements.start == NO_PLACE, elements.store.lengths, elements.end - elements.start)


def _groups(pairs: Pairs, rows: np.ndarray) -> np.ndarray:
    """Give pairs `[n]` numbers: of their chromosomes, or of their promoters where a chromosome is not known."""
    chromosome = pairs.chromosome[rows]
    if (chromosome == "").any():
        return same_place(pairs.elements, pairs.promoter[rows])
    _, number = np.unique(chromosome, return_inverse=True)
    return number


def _best_penalty(penalties: Sequence[float], features: np.ndarray, label: np.ndarray, groups: np.ndarray) -> float:
    """Return the penalty with the lowest log loss on pairs held out by group, of equals the one that comes first.

    Penalties come in descending order: the largest is taken where pairs cannot be held out.
    """
    if len(penalties) == 1:
        return penalties[0]
    loss = np.zeros(len(penalties))
    for fitted, held in _held_out(label, groups):
        for number, penalty in enumerate(penalties):
            model = _logistic(features[fitted], label[fitted], penalty)
            logit_of_truth = np.where(label[held] == 1, 1, -1) * model.decision_function(features[held])
            loss[number] += np.logaddexp(0, -logit_of_truth).sum()
    return penalties[int(np.argmin(loss))]


def _held_out(label: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows to fit and rows held out, whole groups each, wherever the former have both labels."""
    from sklearn.model_selection import GroupKFold

    n_folds = min(FOLDS, np.unique(groups).size)
    if n_folds < 2:
        return
    for fitted, held in GroupKFold(n_folds).split(groups, groups=groups):
        if np.unique(label[fitted]).size == 2:
            yield fitted, held


def _logistic(features: np.ndarray, label: np.ndarray, penalty: float = 1.0) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=1000)).fit(features, label)
