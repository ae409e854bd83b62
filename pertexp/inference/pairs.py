"""Predictions of new pairs, of new cell lines too: each line is described by pairs of its own, without labels."""

import json
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from pertexp.config.errors import DataError
from pertexp.config.validate import typed
from pertexp.data.pairs.loader import PairLoader, Windows
from pertexp.data.pairs.pairs import KEY, Pairs
from pertexp.data.pairs.reading import SequencePairTable
from pertexp.data.pairs.sampler import FixedSteps
from pertexp.evaluation.pairs.predictions import predicted
from pertexp.inference.trained import TrainedPairs
from pertexp.training.checkpoints import checkpoint_of

log = logging.getLogger(__name__)

LEAST_SUPPORT = 8  # pairs from which a mean over a line is still taken
PLACES = ("chrom", "enhancer_start", "enhancer_end", "promoter_start", "promoter_end")
NAMES = ("enhancer_sequence", "promoter_sequence", "cell_line", "enhancer", "promoter")
WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".tsv": lambda table, path: table.to_csv(path, sep="\t", index=False),
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
}
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class ColumnOptions:
    """What a table calls its columns; None: as the table that the model was trained on."""

    enhancer_sequence: str | None
    promoter_sequence: str | None
    cell_line: str | None
    enhancer: str | None
    promoter: str | None
    chrom: str | None
    enhancer_start: str | None
    enhancer_end: str | None
    promoter_start: str | None
    promoter_end: str | None


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Options of `SequencePairTable` that a prediction takes: the table, its columns, how it counts coordinates."""

    path: str | None
    columns: ColumnOptions
    coordinates: Literal["zero_based", "one_based"] | None


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """Options of a prediction with a model of pairs.

    Attributes
    ----------
    data
        The pairs to predict.
    support
        Another table of pairs, which describe the lines.
    draws, seed
        Of the support sets.
    """

    data: TableOptions
    support: str | None
    draws: Count
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Shown:
    """How the model was shown pairs in training (windows, support sets), as `PairData` has it."""

    enhancer_length: Count
    promoter_length: Count
    batch_size: Count
    support_size: Annotated[int, Field(ge=0)]

    @property
    def windows(self) -> Windows:
        """Cut in the centre, on the strand that is given, as held-out pairs are."""
        return Windows(enhancer=self.enhancer_length, promoter=self.promoter_length)


@dataclass(frozen=True, eq=False)
class PairAnswer:
    """A row for every pair that was asked for, in their order.

    Attributes
    ----------
    table
        cell_line, enhancer, promoter, the places where they were read, `probability`: the mean over draws of the
        support sets, `probability_sd` over them (missing with one draw), and `called` where a threshold is known.
    said
        Lines to print.
    """

    table: pd.DataFrame
    said: tuple[str, ...]

    def write(self, path: Path, ending: str) -> None:
        """As .tsv, .csv or .parquet."""
        WRITERS[ending](self.table, path)


def answer(trained: TrainedPairs, asked: PairOptions) -> PairAnswer:
    """Predict the pairs of a table.

    Parameters
    ----------
    asked
        The table, what describes its lines, and how often that is drawn.
    """
    options = asked.data
    shown = typed(Shown, {each.name: trained.data.get(each.name) for each in fields(Shown)}, "data")
    pairs = _read(trained, options, options.path, "data.path").spaced(shown.windows.gap)
    described_by = pairs
    if asked.support is not None:
        described_by = _read(trained, options, asked.support, "support").spaced(shown.windows.gap)
    rows = candidates(pairs, described_by, shown.support_size)
    draws = asked.draws if shown.support_size else 1
    values = [
        predict_with(trained, shown, pairs, described_by, draw_support(rows, shown.support_size, asked.seed, draw))
        for draw in range(draws)
    ]
    return _answer(trained, pairs, np.stack(values), options.coordinates)


def candidates(pairs: Pairs, described_by: Pairs, size: int) -> dict[str, np.ndarray]:
    """For every line of the pairs, those `[n]` of `described_by` that can tell what it is like: all of the line.

    Raises
    ------
    DataError
        Where there are fewer than `LEAST_SUPPORT`; where there are fewer than `size`, it is said that all serve.
    """
    named = dict(zip(described_by.lines, range(len(described_by.lines)), strict=True))
    rows = {name: np.flatnonzero(described_by.line == named.get(name, -1)) for name in pairs.lines}
    for name, own in rows.items():
        if own.size < min(size, LEAST_SUPPORT):
            raise DataError(
                f"cell line {name} has {own.size} pairs to describe it by; the model was trained to see {size} and "
                f"needs at least {min(size, LEAST_SUPPORT)}: give more pairs of that line, labelled or not, in "
                "data.path, or in another table with support=more.tsv."
            )
        if own.size < size:
            log.warning("cell line %s is described by all of its %d pairs, the model was trained to see %d", name,
                        own.size, size)  # fmt: skip
    return rows


def draw_support(rows: Mapping[str, np.ndarray], size: int, seed: int, draw: int) -> dict[str, np.ndarray]:
    """Draw a support set `[S]` for every line, ascending, from the line's name and rows, and not from other lines."""
    chosen = {}
    for name, own in rows.items():
        rng = np.random.default_rng([seed, draw, zlib.crc32(name.encode())])
        chosen[name] = np.sort(rng.choice(own, min(size, own.size), replace=False))
    return chosen


def predict_with(
    trained: TrainedPairs, shown: Shown, pairs: Pairs, described_by: Pairs, support: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Return P(y = 1) `[N]` of all pairs, with these support sets, rows of `described_by`, by the name of the line."""
    by_number = {number: support[name] for number, name in enumerate(pairs.lines)}
    steps = FixedSteps(np.arange(len(pairs)), pairs.line, by_number, batch_size=shown.batch_size)
    loader = PairLoader(pairs, steps, shown.windows, described_by=described_by)
    return predicted(trained.model, loader, trained.name)[1]


def _read(trained: TrainedPairs, options: TableOptions, path: str | None, option: str) -> Pairs:
    """Read the pairs of a table: columns without a name given are called as in the table that the model learnt from."""
    if path is None or not Path(path).is_file():
        found = f"{option} has no value" if path is None else f"no file {path}"
        raise DataError(f"{found}: type {option}=new.tsv, a table of pairs with their sequences.")
    then = trained.data.get("columns") or {}
    wanted = NAMES if options.coordinates is None else (*NAMES, *PLACES)
    # Only a table of sequences calls its columns by our names; other data mean other things by them.
    known = {name: then[name] for name in wanted if then.get(name)} if "enhancer" in then else {}
    given = {name: value for name, value in asdict(options.columns).items() if value is not None}
    values = {"path": path, "coordinates": options.coordinates, "columns": known | given}
    return typed(SequencePairTable, values, "data").read_unlabelled()


def _answer(trained: TrainedPairs, pairs: Pairs, values: np.ndarray, coordinates: str | None) -> PairAnswer:
    """Return the table from the values `[draws, N]`."""
    table = pairs.units[KEY]
    if coordinates is not None:
        table = pd.concat([table, _places(pairs, 1 if coordinates == "one_based" else 0)], axis=1)
    spread = (values - values[0]).std(axis=0, ddof=1) if len(values) > 1 else np.full(len(pairs), np.nan)
    table = table.assign(probability=values.mean(axis=0), probability_sd=spread)
    said = [f"{len(pairs)} pairs of {len(pairs.lines)} cell line(s), mean over {len(values)} draw(s) of support sets"]
    threshold = _threshold(trained)
    if threshold is None:
        said.append(f"`called` is left out: {trained.run} keeps no threshold, chosen on validation, of this checkpoint")
        return PairAnswer(table, tuple(said))
    said.append(f"called at {threshold:.3f} and above, which the run chose on its validation pairs")
    return PairAnswer(table.assign(called=table["probability"] >= threshold), tuple(said))


def _places(pairs: Pairs, first: int) -> pd.DataFrame:
    """Where both elements lie, counted as in the table that was read: the first base is `first`."""
    place = {"chrom": pairs.chromosome}
    for side, number in (("enhancer", pairs.enhancer), ("promoter", pairs.promoter)):
        place[f"{side}_start"] = pairs.elements.start[number] + first
        place[f"{side}_end"] = pairs.elements.end[number]
    return pd.DataFrame(place)


def _threshold(trained: TrainedPairs) -> float | None:
    """Return what the run chose on validation; None where it chose none, or for other weights than these."""
    path = trained.run / "metrics.json"
    if not path.is_file() or trained.path != checkpoint_of(str(trained.run)):
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    value = document.get("thresholds", {}).get(trained.name)
    return None if value is None else float(value)
