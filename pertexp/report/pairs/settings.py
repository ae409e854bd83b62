"""Text around a table of settings of pairs."""

from collections.abc import Sequence

from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.evaluation.results.tables import ResultsTable
from pertexp.report.pairs.tables import chance_of, pair_footnotes, pair_tiles
from pertexp.report.tables import Column, Row, Tile
from pertexp.runs.schema import CalibrationRow


class PairSettings:
    """Lines, chance and footnotes of pairs."""

    def tested(self, table: ResultsTable[PairScores]) -> str:
        """Cell lines, folds and pairs."""
        return f"{table.best.setting.results.where}; {len(table.best.scores.units):,} pairs"

    def notes(self, table: ResultsTable[PairScores]) -> list[str]:
        """Return the best setting line by line, and what intervals are over."""
        scores, model = table.best.scores, table.best.setting.model
        own = scores.by_line[(scores.by_line["model"] == model) & (scores.by_line["metric"] == table.primary)]
        lines = "; ".join(
            f"{row['cell_line']} {row['value']:.3f} (prevalence {row['prevalence']:.3f}, {row['n']} pairs)"
            for row in own.to_dict("records")
        )
        return [f"{table.primary} of {model}, by line: {lines}; intervals {scores.over}"]

    def calibration(self, table: ResultsTable[PairScores]) -> list[CalibrationRow]:  # noqa: ARG002
        """None: pairs have no replicate."""
        return []

    def chance(self, table: ResultsTable[PairScores], metric: str) -> float | None:
        """Prevalence for auprc, one half for auroc."""
        return chance_of(metric, _prevalence(table))

    def tiles(
        self, table: ResultsTable[PairScores], rows: Sequence[Row], baseline: Row | None, column: Column
    ) -> list[Tile]:
        """Return the model, the best baseline, chance."""
        return pair_tiles(rows, baseline, column, _prevalence(table))

    def footnotes(self, table: ResultsTable[PairScores], columns: Sequence[Column]) -> list[str]:  # noqa: ARG002
        """Return how the table is to be read."""
        said = pair_footnotes(table.best.roles, _prevalence(table), table.best.scores.over)
        return [*said, "Masked rows are those of the best setting."] if table.best.roles.masked else said


def _prevalence(table: ResultsTable[PairScores]) -> float:
    return float(table.best.scores.summary(table.best.setting.model, table.primary)["prevalence"])
