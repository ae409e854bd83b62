"""Over-represented words of the training elements, given their base composition: initial motif scanners."""

import numpy as np

from pertexp.data.pairs.pairs import Elements
from pertexp.data.pairs.tokens import UNKNOWN, reverse_complement

BASES = 4


def enriched_words(elements: Elements, wanted: np.ndarray, length: int, n_words: int) -> np.ndarray:
    """Find the words `[W, length]` (W ≤ n_words) most over-represented in elements `wanted` `[m]`, on either strand.

    A word is scored by the number of elements that hold it, against what independent bases of the elements' own
    composition would give: z = (seen − expected) / √(expected + 1). Words with z ≤ 0 are left out. Neighbours of a
    good word, shifted by a base or two, are good words too and are kept: a motif that is longer than a word then has
    several scanners, and fewer are left for chance, which is what a network learns its training elements by.
    """
    sequences = [elements.store.element(int(number)) for number in wanted]
    seen = np.zeros(BASES**length, dtype=np.int64)
    places = 0
    for tokens in sequences:
        words = _words(tokens, length)
        places += len(words)
        seen[np.unique(words)] += 1
    expected = np.maximum(places * _chances(sequences, length), 1e-12)
    excess = (seen - expected) / np.sqrt(expected + 1)
    order = np.argsort(-excess, kind="stable")
    chosen = order[excess[order] > 0][:n_words]
    letters: np.ndarray = chosen[:, None] // BASES ** np.arange(length - 1, -1, -1) % BASES
    return letters


def _words(tokens: np.ndarray, length: int) -> np.ndarray:
    """Return the number of the word at every place without N, that of the strand with the smaller one."""
    if tokens.size < length:
        return np.empty(0, dtype=np.int64)
    powers = BASES ** np.arange(length - 1, -1, -1)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, length).astype(np.int64)
    known = (windows < UNKNOWN).all(axis=1)
    windows = windows[known]
    words: np.ndarray = np.minimum(windows @ powers, reverse_complement(windows) @ powers)
    return words


def _chances(sequences: list[np.ndarray], length: int) -> np.ndarray:
    """Chance `[4^length]` of each word, on either strand, at a place of independent bases."""
    counts = np.bincount(np.concatenate(sequences), minlength=UNKNOWN + 1)[:UNKNOWN].astype(np.float64)
    share = (counts + counts[::-1] + 1) / (counts.sum() * 2 + BASES)  # either strand: A as T, C as G
    chance = np.ones(1)
    for _ in range(length):
        chance = (chance[:, None] * share).ravel()
    return 2 * chance
