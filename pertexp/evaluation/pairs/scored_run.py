"""The results of a run on pairs, and what its folder holds of them."""

from dataclasses import dataclass
from pathlib import Path

from pertexp.evaluation.contract import ScoredRun
from pertexp.evaluation.pairs.predictions import FILE
from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.evaluation.roles import RowRoles
from pertexp.runs.record import whole
from pertexp.runs.schema import PairMetrics

TASK = "pairs"


@dataclass(frozen=True, kw_only=True)
class ScoredPairRun(ScoredRun):
    """The results of a run on pairs.

    Attributes
    ----------
    scores
        What was scored, and how.
    roles
        What each row is.
    """

    metrics: PairMetrics
    scores: PairScores
    roles: RowRoles

    def write_units(self, folder: Path) -> None:
        """Write predictions.parquet."""
        with whole(folder / FILE) as partial:
            self.scores.predictions.to_parquet(partial, index=False)
