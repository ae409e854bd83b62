"""A training step of the motif scanners: the gradient of the best places, compared with that of all.

Run as `OMP_NUM_THREADS=1 python benchmarks/scanner.py [--repeats 5]`. 64 sequences of 3,000 bases, 32 filters of 12
bases on both strands, the best match in every 50 places; forward and backward.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pertexp.models.backbones.cnn import Scanner

SEQUENCES, LENGTH, FILTERS, WIDTH, POOL = 64, 3000, 32, 12, 50


def every_place(scanner: Scanner, tokens: Tensor) -> Tensor:
    """Match every place with a gradient, then pool."""
    return functional.max_pool1d(scanner(tokens), POOL, ceil_mode=True)


def best_places(scanner: Scanner, tokens: Tensor) -> Tensor:
    """As the backbone does."""
    return scanner.best(tokens, POOL)


def seconds(step: Callable[[Scanner, Tensor], Tensor], repeats: int) -> float:
    """Return the fastest of several steps."""
    torch.manual_seed(0)
    scanner, tokens = Scanner(FILTERS, WIDTH), torch.randint(0, 4, (SEQUENCES, LENGTH), dtype=torch.uint8)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.autograd.backward(step(scanner, tokens).sum())
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Print both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    slow, quick = seconds(every_place, repeats), seconds(best_places, repeats)
    print(f"every place {slow:.3f} s, best places {quick:.3f} s a step: {slow / quick:.1f} ×")


if __name__ == "__main__":
    main()
