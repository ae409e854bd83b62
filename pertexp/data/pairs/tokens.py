"""DNA as integer tokens: every element is encoded once into one array, from which windows are cut by position."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pertexp.config.errors import DataError

ALPHABET = "ACGTN"
UNKNOWN = ALPHABET.index("N")
_NOT_DNA = 255
_CODES = np.full(256, _NOT_DNA, dtype=np.uint8)
for _code, _letter in enumerate(ALPHABET):
    _CODES[ord(_letter)] = _CODES[ord(_letter.lower())] = _code
_LETTERS = np.frombuffer(ALPHABET.encode(), dtype=np.uint8)


def encode(sequence: str) -> np.ndarray:
    """Return tokens `[L]` uint8 of one sequence: A, C, G, T, N are 0 to 4, lower case (repeats) as upper.

    Raises
    ------
    ValueError
        On a letter that is none of these, with the letter and its place.
    """
    tokens = _CODES[np.frombuffer(sequence.encode("utf-8", "replace"), dtype=np.uint8)]
    wrong = np.flatnonzero(tokens == _NOT_DNA)
    if wrong.size:
        place = int(wrong[0])
        raise ValueError(f"the letter '{sequence[place : place + 1]}' at place {place + 1}")
    return tokens


def decode(tokens: np.ndarray) -> str:
    """Return the sequence in upper case of tokens `[L]`."""
    sequence: str = _LETTERS[tokens].tobytes().decode()
    return sequence


def reverse_complement(tokens: np.ndarray) -> np.ndarray:
    """Return the other strand, read in its own direction, of tokens `[..., L]`."""
    return np.minimum(np.uint8(3) - tokens[..., ::-1], np.uint8(UNKNOWN))  # A, C, G, T are 3 - T, G, C, A; 3 - N wraps


@dataclass(frozen=True, eq=False)
class TokenStore:
    """The tokens of all elements in one array.

    Between elements, before the first and after the last lie `gap` tokens N, so that a window that is wider than
    its element still lies inside the array and shows N on both sides: cutting is one copy a window, no masking.

    Attributes
    ----------
    tokens
        `[T]` uint8.
    starts, lengths
        `[M]` int64: where an element begins, and how many bases it has.
    gap
        Tokens N between neighbours: windows of up to 2 · gap bases can be cut.
    """

    tokens: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    gap: int = 0

    @classmethod
    def of(cls, sequences: Sequence[str], names: Sequence[str]) -> "TokenStore":
        """Encode sequences `[M]`.

        Raises
        ------
        DataError
            On an empty sequence or one with letters other than A, C, G, T, N; `names` say which.
        """
        parts = []
        for sequence, name in zip(sequences, names, strict=True):
            try:
                parts.append(encode(sequence))
            except ValueError as fault:
                raise DataError(
                    f"The sequence of {name} holds {fault}: expected A, C, G, T and N alone; "
                    "write N for every other code."
                ) from None
            if not len(sequence):
                raise DataError(f"The sequence of {name} is empty: expected at least one base; leave its pairs out.")
        lengths = np.array([part.size for part in parts], dtype=np.int64)
        tokens = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8)
        return cls(tokens, np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return int(self.lengths.size)

    def element(self, number: int) -> np.ndarray:
        """Return tokens `[L]` of one element, whole."""
        start = self.starts[number]
        return self.tokens[start : start + self.lengths[number]]

    def spaced(self, gap: int) -> "TokenStore":
        """Return the same elements with this gap between them."""
        starts = np.cumsum(self.lengths + gap) - self.lengths
        tokens = np.full(int(self.lengths.sum()) + gap * (len(self) + 1), UNKNOWN, dtype=np.uint8)
        for number, start in enumerate(starts):
            tokens[start : start + self.lengths[number]] = self.element(number)
        return TokenStore(tokens, starts, self.lengths, gap)

    def windows(self, elements: np.ndarray, length: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Windows `[B, length]` uint8 of the elements `[B]`.

        A longer element is cropped: in its middle, or where `rng` says. A shorter one lies in the middle between N.
        """
        if length > 2 * self.gap:
            raise ValueError(f"windows of {length} bases need a gap of {-(-length // 2)}, this store has {self.gap}")
        spare = self.lengths[elements] - length
        shift = spare // 2
        if rng is not None:
            shift = np.where(spare > 0, rng.integers(0, np.maximum(spare, 0) + 1), shift)
        every = np.lib.stride_tricks.sliding_window_view(self.tokens, length)
        windows: np.ndarray = every[self.starts[elements] + shift]
        return windows
