"""Read pairs from tables of coordinates and the user's own genome, and verify them."""

import logging
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, nearest
from pertexp.data.pairs.pairs import KEY, Pairs, pair_up
from pertexp.data.pairs.reading import (
    Counting,
    digest,
    elements_of,
    gap_between,
    named_after_place,
    need_columns,
    places,
    read_table,
    renamed,
    sha256,
)

log = logging.getLogger(__name__)

Build = Literal["hg19", "hg38", "any"]
BASES = 20
LENGTHS = {
    "hg19": {"chr1": 249_250_621, "chr2": 243_199_373, "chr21": 48_129_895, "chr22": 51_304_566, "chrX": 155_270_560},
    "hg38": {"chr1": 248_956_422, "chr2": 242_193_529, "chr21": 46_709_983, "chr22": 50_818_468, "chrX": 156_040_895},
}
AMBIGUOUS = str.maketrans(dict.fromkeys("RYSWKMBDHV", "N"))
TARGETFINDER = {
    "enhancer_start": "enh_start",
    "enhancer_end": "enh_end",
    "promoter_start": "prom_start",
    "promoter_end": "prom_end",
}


@dataclass(kw_only=True)
class CoordinatePairTable:
    """Pairs given by coordinates, and a genome to cut their sequences from.

    Attributes
    ----------
    path
        The table, .tsv or .csv, also gzipped, with a header.
    fasta
        The genome; pyfaidx writes its index (.fai) next to it, or in a temporary folder where it may not write there.
    layout
        `bed`: columns `chrom`, `enhancer_start`, `enhancer_end`, `promoter_start`, `promoter_end`, `cell_line`,
        `label`. `targetfinder`: the tables of TargetFinder, which count from 1, inclusive. `bengi`: BENGI as TransEPI
        keeps it (elements count as in BED, a promoter is the flanks of a transcription start on its strand).
    columns
        For `bed`: the file's names of our columns. Where it also has `enhancer_sequence` or `promoter_sequence`, the
        genome must agree with them.
    coordinates
        For `bed`: `zero_based`, half-open, or `one_based`, inclusive.
    assay
        For `bengi`: which of its experiments, the part of `dataset` behind the point. A line with several would show
        one pair under two labels.
    promoter_flanks
        For `bengi`: bases upstream and downstream of the transcription start.
    build
        `hg19` or `hg38`: refuse a genome whose chromosomes have other lengths; `any` checks nothing. None: hg19 for
        TargetFinder and BENGI, which are of that build.
    lines
        Cell lines to keep; None keeps all.
    """

    path: str
    fasta: str
    layout: Literal["bed", "targetfinder", "bengi"] = "bed"
    columns: dict[str, str | None] = field(default_factory=dict)
    coordinates: Counting = "zero_based"
    assay: str = "HiC"
    promoter_flanks: tuple[int, int] = (1000, 1000)
    build: Build | None = None
    lines: list[str] | None = None

    def read(self) -> Pairs:
        """Read and verify; every fault is one sentence.

        Raises
        ------
        DataError
            On tables or a genome that are missing or cannot be read, on a place off its chromosome, a contig that
            the genome lacks, bases other than those given, and all that `pair_up` refuses.
        """
        path = Path(self.path)
        table = read_table(path, "type data.path=/path/to/pairs.tsv")
        laid_out = {"bed": self._bed, "targetfinder": self._targetfinder, "bengi": self._bengi}
        frame, sides = laid_out[self.layout](table, path)
        frame = self._of_lines(frame, path)
        sides = {side: rows.loc[frame.index].assign(name=named_after_place) for side, rows in sides.items()}
        distinct = pd.concat(sides.values()).drop_duplicates("name").reset_index(drop=True)
        genome = Genome(Path(self.fasta), self._build())
        distinct["sequence"] = genome.cut(distinct, path)
        for side, rows in sides.items():
            _refuse_other_bases(frame, side, rows["name"].map(distinct.set_index("name")["sequence"]), path, self.fasta)
        frame = frame.assign(**{side: rows["name"] for side, rows in sides.items()})
        frame = frame.assign(distance=gap_between(sides["enhancer"], sides["promoter"]))
        if self.layout == "bengi":
            frame = _without_repeats(frame, path)
        return pair_up(frame, elements_of(distinct, Path(self.fasta)), str(path), self._provenance(path))

    def _bed(self, table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        return self._placed(renamed(table, self.columns, path), self.coordinates, path)

    def _targetfinder(self, table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        need_columns(table, ["cell_line", "chrom", *TARGETFINDER.values(), "label"], path)
        return self._placed(renamed(table, TARGETFINDER, path), "one_based", path)

    @staticmethod
    def _placed(frame: pd.DataFrame, counting: Counting, path: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        need_columns(frame, ["chrom", "cell_line", "label"], path)
        columns = {side: ["chrom", f"{side}_start", f"{side}_end"] for side in ("enhancer", "promoter")}
        for named in columns.values():
            need_columns(frame, named, path)
        return frame, {side: places(frame, named, counting, path) for side, named in columns.items()}

    def _bengi(self, table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
        need_columns(table, ["dataset", "label", "chrom", "els_start", "els_end", "tss", "strand"], path)
        assays = table["dataset"].str.partition(".")[2]
        if self.assay not in set(assays):
            raise DataError(
                f"{path} has no dataset of data.assay={self.assay}: {nearest(self.assay, assays.unique(), 8)}"
            )
        frame = table[assays == self.assay].copy()
        frame["cell_line"] = frame["dataset"].str.partition(".")[0]
        enhancers = places(frame, ["chrom", "els_start", "els_end"], "zero_based", path)
        tss = places(
            frame.assign(after=pd.to_numeric(frame["tss"], errors="coerce") + 1),
            ["chrom", "tss", "after"],
            "zero_based",
            path,
        )
        upstream, downstream = self.promoter_flanks
        forward = (frame["strand"] != "-").to_numpy()
        start = tss["start"] - np.where(forward, upstream, downstream)
        end = tss["start"] + np.where(forward, downstream, upstream)
        return frame, {"enhancer": enhancers, "promoter": tss.assign(start=start.clip(lower=0), end=end)}

    def _of_lines(self, frame: pd.DataFrame, path: Path) -> pd.DataFrame:
        """Return the rows of the lines asked for, before a genome is opened for the others."""
        unknown = [name for name in self.lines or [] if name not in set(frame["cell_line"])]
        if unknown:
            raise DataError(
                f"data.lines names the cell line '{unknown[0]}', which no pair of {path} has: "
                f"{nearest(unknown[0], frame['cell_line'].unique(), 8)}"
            )
        return frame if self.lines is None else frame[frame["cell_line"].isin(self.lines)]

    def _build(self) -> Build:
        return self.build or ("any" if self.layout == "bed" else "hg19")

    def _provenance(self, path: Path) -> dict[str, Any]:
        genome = Path(self.fasta)
        return {
            "file": path.name,
            "sha256": sha256(path),
            "genome": genome.name,
            "genome_bytes": genome.stat().st_size,
            "layout": self.layout,
            "build": self._build(),
            **({"assay": self.assay, "promoter_flanks": list(self.promoter_flanks)} if self.layout == "bengi" else {}),
        }


class Genome:
    """Random access to a FASTA file.

    Parameters
    ----------
    path
        The file, unzipped.
    build
        What its chromosomes must be as long as; `any` for no check.

    Raises
    ------
    DataError
        Where the file is missing or no FASTA, or a chromosome has another length than in `build`.
    """

    def __init__(self, path: Path, build: Build) -> None:
        self.path = path
        self._contigs = _opened(path)
        self.lengths = {name: len(self._contigs[name]) for name in self._contigs.keys()}  # noqa: SIM118
        for name, length in LENGTHS.get(build, {}).items():
            found = self.lengths.get(name, length)
            if found != length:
                likely = [other for other, known in LENGTHS.items() if known[name] == found]
                raise DataError(
                    f"{path}: {name} is {found} bases long, in {build} it is {length}"
                    f"{f', so this is {likely[0]}' if likely else ''}: give a genome of {build} with data.fasta=..., "
                    "or name another build with data.build=..."
                )

    def cut(self, placed: pd.DataFrame, table: Path) -> list[str]:
        """Sequences in upper case of places (`chrom`, `start`, `end`; 0-based, half-open); other codes become N."""
        self._refuse_strangers(placed, table)
        return [
            str(self._contigs[row.chrom][row.start : row.end]).upper().translate(AMBIGUOUS)
            for row in placed[["chrom", "start", "end"]].itertuples(index=False)
        ]

    def _refuse_strangers(self, placed: pd.DataFrame, table: Path) -> None:
        missing = placed.loc[~placed["chrom"].isin(list(self.lengths)), "chrom"]
        if len(missing):
            raise DataError(
                f"{self.path} has no contig '{missing.iloc[0]}', which {table} names ({missing.nunique()} such "
                f"contigs): {nearest(missing.iloc[0], self.lengths)}; give the build that the table was made for."
            )
        length = placed["chrom"].map(self.lengths)
        off = placed[placed["end"] > length]
        if len(off):
            first = off.iloc[0]
            raise DataError(
                f"{table} names {first['chrom']}:{first['start']}-{first['end']}, but {first['chrom']} ends at "
                f"{self.lengths[first['chrom']]} in {self.path} ({len(off)} elements lie off their chromosome): "
                "the genome may be of another build."
            )


def _opened(path: Path) -> Any:
    from pyfaidx import Fasta

    if not path.is_file():
        raise DataError(f"no file {path}: give the genome with data.fasta=/path/to/hg19.fa")
    index = _index_of(path)
    try:
        genome = Fasta(str(path), as_raw=True, indexname=str(index), build_index=True)
    except Exception as fault:  # pyfaidx raises many kinds for a truncated or plainly gzipped file
        raise DataError(
            f"{path} cannot be read as FASTA ({type(fault).__name__}: {' '.join(str(fault).split())[:120]}): "
            "give an unzipped FASTA, lines of equal length, and remove an index (.fai) of another file next to it."
        ) from fault
    if not len(genome.keys()):
        raise DataError(f"{path} holds no sequence: expected lines that begin with '>' and bases below them.")
    return genome


def _index_of(path: Path) -> Path:
    """Next to the genome, or where no one may write there, in the temporary folder under a name of its own."""
    index = Path(f"{path}.fai")
    if index.is_file() or os.access(path.parent, os.W_OK):
        return index
    return Path(tempfile.gettempdir()) / f"pertexp_{digest(str(path.resolve()))}.fai"


def _refuse_other_bases(frame: pd.DataFrame, side: str, found: pd.Series, path: Path, fasta: str) -> None:
    """DataError where the table's own sequence is not what the genome holds there; N agrees with everything."""
    if f"{side}_sequence" not in frame:
        return
    given = frame[f"{side}_sequence"].str.strip().str.upper()
    for row, (ours, theirs) in enumerate(zip(found, given, strict=True)):
        same = len(ours) == len(theirs) and all(a == b or "N" in (a, b) for a, b in zip(ours, theirs, strict=True))
        if not same:
            raise DataError(
                f"{path}, row {int(frame.index[row]) + 1}: the {side} sequence begins {theirs[:BASES]} ({len(theirs)} "
                f"bases), {fasta} holds {ours[:BASES]} ({len(ours)}) there: the genome is of another build, or "
                "coordinates are counted otherwise (data.coordinates)."
            )


def _without_repeats(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return one row a pair: transcripts that begin at one base repeat it."""
    once = frame.drop_duplicates([*KEY, "label"])
    if len(once) < len(frame):
        log.info("%s: %d rows repeat a pair with its label, and are read once.", path, len(frame) - len(once))
    return once
