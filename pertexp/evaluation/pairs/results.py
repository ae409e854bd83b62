"""What runs on pairs were judged by: what every model said of every pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pertexp.errors import DataError
from pertexp.evaluation.pairs.lineup import Lineup
from pertexp.evaluation.pairs.pooling import joined
from pertexp.evaluation.pairs.predictions import UNIT, pooled
from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.evaluation.pairs.seeds import SeedMeans
from pertexp.evaluation.pairs.verdict import verdict
from pertexp.evaluation.results.evidence import Evidence, Standing
from pertexp.metrics.pairs import PAIRS
from pertexp.report.pairs.reading import judged_by
from pertexp.report.pairs.tables import chance_of, kind_in, note_in, pair_footnotes, pair_tiles
from pertexp.report.tables import Column, Row, Tile
from pertexp.runs.reading import Trust


@dataclass(frozen=True, eq=False)
class PairEvidence(Evidence):
    """Scored pairs, a table for each seed.

    Attributes
    ----------
    tables
        As a run writes them, all with the same pairs in the same order.
    lineup
        Who stands in them.
    n_resamples, seed
        Of the bootstrap.
    """

    tables: tuple[pd.DataFrame, ...]
    lineup: Lineup
    n_resamples: int
    seed: int

    @classmethod
    def of(cls, folder: Path) -> "PairEvidence":
        """Of a finished run."""
        summary, table = judged_by(folder)
        if summary.model not in set(table["model"]):
            raise DataError(f"{folder} holds no prediction of {summary.model}; expected what a run writes.")
        return cls((_ordered(table),), summary.lineup, summary.n_resamples, summary.seed)

    @classmethod
    def pooled(cls, parts: Sequence["PairEvidence"]) -> "PairEvidence":
        """Pairs of several lines and folds; models that are not in every run are left out."""
        table = _ordered(pooled([part.tables[0] for part in parts]))
        return parts[0]._with((table,), [part.lineup for part in parts])

    @classmethod
    def averaged(cls, parts: Sequence["PairEvidence"]) -> "PairEvidence":
        """Several seeds; models that are not in every one are left out."""
        shared = set.intersection(*(set(part.tables[0]["model"]) for part in parts))
        tables = [part.tables[0][part.tables[0]["model"].isin(shared)] for part in parts]
        return parts[0]._with(tuple(tables), [part.lineup for part in parts])

    def _with(self, tables: tuple[pd.DataFrame, ...], lineups: Sequence[Lineup]) -> "PairEvidence":
        return replace(self, tables=tables, lineup=joined(lineups).among(tables[0]["model"].unique()))

    @cached_property
    def tested(self) -> tuple[tuple[str, int], ...]:
        """Cell lines and folds."""
        cells = self.tables[0][["cell_line", "fold"]].drop_duplicates()
        return tuple(sorted(zip(cells["cell_line"].astype(str), cells["fold"].astype(int), strict=True)))

    @property
    def where(self) -> str:
        """Cell lines, and folds."""
        return _where(self.tested)

    @cached_property
    def units(self) -> frozenset[tuple[Any, ...]]:
        """The pairs with their labels."""
        table = self.tables[0]
        own = table.loc[table["model"] == self.lineup.model, [*UNIT, "label"]]
        return frozenset(own.itertuples(index=False, name=None))

    @property
    def metrics(self) -> tuple[str, ...]:
        """All of pairs."""
        return tuple(PAIRS)

    def means(self) -> pd.DataFrame:
        """Means over lines of the means over folds."""
        return self._scores("auprc").means()

    def beside(self, first: "PairEvidence") -> "PairEvidence":
        """The model, and the baselines that score otherwise than beside the first: resampling pairs takes its time."""
        own, known = self.means(), first.means()
        same = {name for name in own.index.intersection(known.index) if own.loc[name].equals(known.loc[name])}
        left = (same | set(self.lineup.masked)) - {self.lineup.model}
        tables = [table[~table["model"].isin(left)] for table in self.tables]
        return self._with(tuple(tables), [self.lineup])

    def standing(self, primary: str) -> Standing:
        """Scores over the pairs; over seeds, their mean."""
        return _PairStanding(self._scores(primary), self.lineup, self.where)

    def _scores(self, primary: str) -> PairScores:
        parts = tuple(PairScores(table, primary, self.n_resamples, self.seed) for table in self.tables)
        return parts[0] if len(parts) == 1 else SeedMeans.over(parts)


@dataclass(frozen=True, eq=False)
class _PairStanding:
    scores: PairScores
    lineup: Lineup
    where: str

    @property
    def models(self) -> tuple[str, ...]:
        return self.scores.models

    @property
    def aggregate(self) -> pd.DataFrame:
        return self.scores.aggregate

    def summary(self, model: str, metric: str) -> pd.Series:
        return self.scores.summary(model, metric)

    def verdict(self) -> list[str]:
        return verdict(self.scores, self.lineup)

    def kind(self, name: str) -> str:
        return kind_in(self.lineup, name)

    def note(self, name: str) -> str:
        return note_in(self.lineup, name)

    @property
    def trust(self) -> list[Trust]:
        return []

    @property
    def said(self) -> str:
        return f"{self.where}; {len(self.scores.units):,} pairs"

    def chance(self, metric: str) -> float | None:
        return chance_of(metric, self._prevalence)

    def tiles(self, rows: Sequence[Row], baseline: Row | None, column: Column) -> list[Tile]:
        return pair_tiles(rows, baseline, column, self._prevalence)

    def footnotes(self, columns: Sequence[Column]) -> list[str]:  # noqa: ARG002
        said = pair_footnotes(self.lineup, self._prevalence, self.scores.resamples.said)
        return [*said, "Masked rows are those of the best setting."] if self.lineup.masked else said

    @property
    def _prevalence(self) -> float:
        return float(self.summary(self.lineup.model, self.scores.primary)["prevalence"])


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Pairs in an order of their own, models in theirs: the resamples of two seeds hold the same pairs."""
    return table.sort_values(UNIT, kind="stable", ignore_index=True)


def _where(tested: Sequence[tuple[str, int]]) -> str:
    lines = list(dict.fromkeys(line for line, _ in tested))
    folds = sorted({fold for _, fold in tested})
    named = ", ".join(lines) if len(lines) <= 4 else f"{len(lines)} cell lines"
    return f"{named}, {'folds' if len(folds) > 1 else 'fold'} {', '.join(map(str, folds))}"
