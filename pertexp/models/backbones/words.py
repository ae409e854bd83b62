"""Words that the training elements hold more often than their bases explain: where motif scanners can start."""

import numpy as np

from pertexp.data.pairs.pairs import Elements
from pertexp.data.pairs.tokens import UNKNOWN, reverse_complement

BASES = 4
SHARED = 0  # letters fewer than a word that two chosen words must not share in a row


def enriched_words(elements: Elements, wanted: np.ndarray, length: int, n_words: int) -> np.ndarray:
    """The words `[W, length]` (W ≤ n_words) most over-represented in the elements `wanted` `[m]`, on either strand.

    A word is scored by the number of elements that hold it, against what independent bases of the elements' own
    composition would give, in standard deviations: z = (seen − expected) / √expected. Words with z ≤ 0 are left out,
    and so are those that share `length` − 2 letters in a row with a better one: they are most often its neighbours.
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
    return _distinct(order[excess[order] > 0], length, n_words)


def _words(tokens: np.ndarray, length: int) -> np.ndarray:
    """Number of the word at every place without N, that of the strand with the smaller one."""
    if tokens.size < length:
        return np.empty(0, dtype=np.int64)
    powers = BASES ** np.arange(length - 1, -1, -1)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, length).astype(np.int64)
    known = (windows < UNKNOWN).all(axis=1)
    windows = windows[known]
    return np.minimum(windows @ powers, reverse_complement(windows) @ powers)


def _chances(sequences: list[np.ndarray], length: int) -> np.ndarray:
    """Chance `[4^length]` of each word, on either strand, at a place of independent bases."""
    counts = np.bincount(np.concatenate(sequences), minlength=UNKNOWN + 1)[:UNKNOWN].astype(np.float64)
    share = (counts + counts[::-1] + 1) / (counts.sum() * 2 + BASES)  # either strand: A as T, C as G
    chance = np.ones(1)
    for _ in range(length):
        chance = (chance[:, None] * share).ravel()
    return 2 * chance


def _distinct(order: np.ndarray, length: int, n_words: int) -> np.ndarray:
    chosen: list[np.ndarray] = []
    taken: set[bytes] = set()
    for number in order:
        word = _letters(int(number), length)
        parts = _parts(word, length - SHARED) | _parts(reverse_complement(word), length - SHARED)
        if parts & taken:
            continue
        taken |= parts
        chosen.append(word)
        if len(chosen) == n_words:
            break
    return np.stack(chosen) if chosen else np.empty((0, length), dtype=np.uint8)


def _letters(number: int, length: int) -> np.ndarray:
    return np.array([number // BASES**place % BASES for place in range(length - 1, -1, -1)], dtype=np.uint8)


def _parts(word: np.ndarray, length: int) -> set[bytes]:
    return {word[start : start + length].tobytes() for start in range(word.size - length + 1)}
