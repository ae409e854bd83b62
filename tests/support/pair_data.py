"""Small pairs that tests of their data share."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from pertexp.data.pairs.pairs import Elements, Pairs, pair_up
from pertexp.data.pairs.tokens import TokenStore

LETTERS = np.array(list("ACGT"))


def bases(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(LETTERS, length))


def little_pairs(n_lines=3, chromosomes=("chr1", "chr2", "chr3", "chr6", "chr11"), per=3, shared=()) -> Pairs:
    """Per line and chromosome `per` enhancers and promoters, all paired; on `shared` lines have one place."""
    names, places, rows = [], [], []
    for line in range(n_lines):
        for chromosome in chromosomes:
            for number in range(per):
                for side, shift in (("E", 0), ("P", 500_000)):
                    names.append(f"{side}{line}{chromosome}_{number}")
                    start = shift + number * 1000 + (0 if chromosome in shared else line * 50_000)
                    places.append((chromosome, start, start + 60))
            rows += [
                (f"L{line}", f"E{line}{chromosome}_{a}", f"P{line}{chromosome}_{b}", (a + b) % 2)
                for a in range(per)
                for b in range(per)
            ]
    frame = pd.DataFrame(rows, columns=["cell_line", "enhancer", "promoter", "label"])
    chrom, start, end = (np.array(column) for column in zip(*places, strict=True))
    store = TokenStore.of([bases(60, seed) for seed in range(len(names))], names)
    elements = Elements(np.array(names), store, chrom, start, end)
    return pair_up(frame.astype({"label": str}), elements, "pairs", {})


def write_tsv(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(path, sep="\t", index=False)
    return path


def write_fasta(path: Path, contigs: dict[str, str], width: int = 50) -> Path:
    lines = []
    for name, sequence in contigs.items():
        lines += [f">{name}", *(sequence[at : at + width] for at in range(0, len(sequence), width))]
    path.write_text("\n".join(lines) + "\n")
    return path


def truncate(path: Path, source: Path, share: float = 0.5) -> Path:
    """The first part of a gzipped file, as a broken download leaves it."""
    whole = source.read_bytes() if source.suffix == ".gz" else gzip.compress(source.read_bytes())
    path.write_bytes(whole[: int(len(whole) * share)])
    return path
