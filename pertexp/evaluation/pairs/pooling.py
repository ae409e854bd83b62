"""Runs on several lines and folds of pairs as one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pertexp.errors import DataError
from pertexp.evaluation.claims import Difference
from pertexp.evaluation.pairs.lineup import Lineup
from pertexp.evaluation.pairs.predictions import UNIT, pooled, stored
from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.evaluation.pairs.verdict import verdict


def joined(lineups: Sequence[Lineup]) -> Lineup:
    """The lineup of several runs: a baseline that is not counted in one of them is counted in none."""
    aside = {name: why for lineup in reversed(lineups) for name, why in lineup.not_counted.items()}
    rivals = tuple(name for name in lineups[0].rivals if name not in aside)
    return replace(lineups[0], rivals=rivals, not_counted=aside)


@dataclass(frozen=True, eq=False)
class PooledPairs:
    """Scored pairs, joined: each fold is scored by itself, then the folds of a line are averaged, then the lines."""

    scores: PairScores
    lineup: Lineup

    @classmethod
    def of(cls, folders: Sequence[Path], documents: Sequence[Mapping[str, Any]]) -> "PooledPairs":
        """Read the tables.

        Parameters
        ----------
        documents
            The metrics.json of every folder.
        """
        table = pooled([stored(folder) for folder in folders])
        first = documents[0]
        lineup = joined([Lineup.stored(document) for document in documents]).among(table["model"].unique())
        return cls(PairScores(table, first["primary"], first["n_resamples"], first["seed"]), lineup)

    @property
    def roles(self) -> dict[str, str]:
        """The model, itself masked, and baselines, counted or not."""
        return dict(self.lineup.roles)

    def means(self) -> pd.DataFrame:
        """Means over cell lines of the means over folds, without intervals."""
        return self.scores.means()

    def verdict(self, primary: str) -> list[str]:
        """What was scored, then sentences, the primary metric first."""
        scores = replace(self.scores, primary=primary)
        return [self._scored(scores), *verdict(scores, self.lineup)]

    def beside(self, name: str, others: Mapping[str, "PooledPairs"], primary: str) -> dict[str, Difference]:
        """Differences over the pairs that all were scored on, with the resamples that all share."""
        tables = [one.own(setting) for setting, one in {name: self, **others}.items()]
        keyed = [set(table[UNIT].itertuples(index=False, name=None)) for table in tables]
        for setting, pairs in zip(others, keyed[1:], strict=True):
            if pairs != keyed[0]:
                raise DataError(f"{setting} was scored on other pairs than {name}: they cannot be compared.")
        scores = replace(self.scores, predictions=pd.concat(tables, ignore_index=True), primary=primary)
        return {other: scores.difference(name, other, primary) for other in others}

    def own(self, name: str) -> pd.DataFrame:
        """What the model said of the pairs, under another name."""
        table = self.scores.predictions
        return table[table["model"] == self.lineup.model].assign(model=name)

    def _scored(self, scores: PairScores) -> str:
        own = scores.by_line[
            (scores.by_line["model"] == self.lineup.model) & (scores.by_line["metric"] == scores.primary)
        ]
        lines = "; ".join(
            f"{row['cell_line']} {row['value']:.3f} (prevalence {row['prevalence']:.3f}, {row['n']} pairs)"
            for row in own.to_dict("records")
        )
        return f"{scores.primary} of {self.lineup.model}, by line: {lines}; intervals {scores.resamples.said}"
