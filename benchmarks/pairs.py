"""Pairs a second into batches: pertexp's loader and a plain dataset that slices text, one run, the same pairs.

Run as `python benchmarks/pairs.py [--repeats 3]`. One thread, windows of 1,000 + 2,000 bases, batches of 64 pairs. The
plain way is a torch Dataset that cuts a string, looks its letters up and pads, an item at a time, in a DataLoader.
"""

import argparse
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pertexp.data.pairs.loader import PairLoader, Windows
from pertexp.data.pairs.pairs import Elements, Pairs
from pertexp.data.pairs.sampler import CellBatchSampler
from pertexp.data.pairs.tokens import ALPHABET, TokenStore, decode

N_PAIRS, N_LINES, N_ELEMENTS = 20_000, 5, 4_000
ENHANCER, PROMOTER, BATCH, SUPPORT = 1000, 2000, 64, 32
SLOW_PAIRS = 2_048  # enough to time an item at a time


def planted(seed: int = 0) -> Pairs:
    """Pairs of elements with the lengths of TargetFinder's: medians 401 and 1,402, some longer than a window."""
    rng = np.random.default_rng(seed)
    medians = np.repeat([401, 1402], N_ELEMENTS)
    lengths = np.exp(rng.normal(np.log(medians), 0.7)).astype(np.int64) + 1
    tokens = rng.integers(0, 4, lengths.sum()).astype(np.uint8)
    store = TokenStore(tokens, np.cumsum(lengths) - lengths, lengths).spaced(Windows(ENHANCER, PROMOTER).gap)
    places = np.arange(2 * N_ELEMENTS, dtype=np.int64)
    elements = Elements(places.astype(str), store, np.full(places.size, "chr1"), places, places + 1)
    return Pairs(
        elements=elements,
        lines=tuple(f"line{number}" for number in range(N_LINES)),
        line=rng.integers(0, N_LINES, N_PAIRS),
        enhancer=rng.integers(0, N_ELEMENTS, N_PAIRS),
        promoter=rng.integers(0, N_ELEMENTS, N_PAIRS) + N_ELEMENTS,
        label=rng.integers(0, 2, N_PAIRS),
        distance=np.full(N_PAIRS, np.nan),
    )


class TextPairs(Dataset[tuple[Tensor, Tensor, float]]):
    """One pair at a time from strings."""

    def __init__(self, pairs: Pairs, n_pairs: int) -> None:
        self.pairs = pairs
        self.n_pairs = n_pairs
        self.texts = [decode(pairs.elements.store.element(number)) for number in range(len(pairs.elements))]
        self.code = {letter: code for code, letter in enumerate(ALPHABET)}

    def __len__(self) -> int:
        return self.n_pairs

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, float]:
        enhancer = self.tokens(self.texts[self.pairs.enhancer[row]], ENHANCER)
        promoter = self.tokens(self.texts[self.pairs.promoter[row]], PROMOTER)
        return enhancer, promoter, float(self.pairs.label[row])

    def tokens(self, text: str, length: int) -> Tensor:
        """Return a window in the middle, looked up letter by letter."""
        start = max(len(text) - length, 0) // 2
        text = text[start : start + length].center(length, "N")
        return torch.tensor([self.code[letter] for letter in text], dtype=torch.uint8)


def loader(pairs: Pairs, support: int, windows: Windows) -> PairLoader:
    sampler = CellBatchSampler(np.arange(N_PAIRS), pairs.line, pairs.label, batch_size=BATCH, support_size=support)
    return PairLoader(pairs, sampler, windows)


def rate(epoch: Callable[[], Iterable[int]], n_pairs: int, repeats: int) -> float:
    """Pairs a second, the best of several epochs; the sampler's plan of the epoch counts."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        seen = sum(epoch())
        best = min(best, time.perf_counter() - start)
        if seen != n_pairs:
            raise AssertionError(f"{seen} pairs came out of {n_pairs}")
    return n_pairs / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    pairs = planted()
    plain, augmented = Windows(ENHANCER, PROMOTER), Windows(ENHANCER, PROMOTER, random=True, both_strands=True)
    ours = {
        "pertexp, centred": loader(pairs, 0, plain),
        "pertexp, random crops and strands": loader(pairs, 0, augmented),
        "pertexp, the same with support sets of 32": loader(pairs, SUPPORT, augmented),
    }
    text = DataLoader(TextPairs(pairs, SLOW_PAIRS), batch_size=BATCH)
    slow = rate(lambda: (len(batch[0]) for batch in text), SLOW_PAIRS, repeats)
    print(
        f"{N_PAIRS} pairs of {2 * N_ELEMENTS} elements, {ENHANCER} + {PROMOTER} bases, batches of {BATCH}, one thread"
    )
    print(f"{'text sliced an item at a time':45s} {slow:10,.0f} pairs/s")
    for name, of in ours.items():
        found = rate(lambda of=of: (len(batch["label"]) for batch in of), N_PAIRS, repeats)  # type: ignore[misc]
        print(f"{name:45s} {found:10,.0f} pairs/s   {found / slow:6.1f} x")


if __name__ == "__main__":
    main()
