"""What screens say about a table of settings."""

from collections.abc import Sequence

from pertexp.evaluation.results.tables import ResultsTable
from pertexp.evaluation.screens.results import SEVERAL
from pertexp.evaluation.screens.scoring import Scores
from pertexp.report.screens.tables import screen_footnotes, screen_tiles
from pertexp.report.tables import Column, Row, Tile
from pertexp.runs import documents
from pertexp.runs.schema import CalibrationRow


class ScreenSettings:
    """Units, calibration and footnotes of screens."""

    def tested(self, table: ResultsTable) -> str:
        """Folds, perturbations, contexts and scale."""
        scores = _scores(table)
        units, folds = scores.per_unit, table.best.setting.results.tested
        several = len(folds) > 1 or folds == (SEVERAL,)
        words = [f"folds {table.best.setting.results.where} pooled" if several else f"fold {folds[0]}"]
        words.append(f"{units['perturbation'].nunique()} held-out perturbations")
        contexts = units["context"].nunique()
        words += [f"{contexts} contexts"] if contexts > 1 else []
        return f"{', '.join(words)}; scale: {scores.scale}"

    def notes(self, table: ResultsTable) -> list[str]:  # noqa: ARG002
        """None."""
        return []

    def calibration(self, table: ResultsTable) -> list[CalibrationRow]:
        """Calibration of every metric, from the first setting that has it."""
        found: dict[str, CalibrationRow] = {}
        for one in table.settings:
            assert isinstance(one.scores, Scores)  # noqa: S101
            for row in documents.rows(CalibrationRow, one.scores.calibration):
                found.setdefault(row.metric, row)
        return list(found.values())

    def chance(self, table: ResultsTable, metric: str) -> float | None:  # noqa: ARG002
        """None: the baselines say it."""
        return None

    def tiles(self, table: ResultsTable, rows: Sequence[Row], baseline: Row | None, column: Column) -> list[Tile]:  # noqa: ARG002
        """The model, the best baseline, the replicate."""
        return screen_tiles(rows, baseline, column)

    def footnotes(self, table: ResultsTable, columns: Sequence[Column]) -> list[str]:  # noqa: ARG002
        """How the table is to be read."""
        return screen_footnotes(columns)


def _scores(table: ResultsTable) -> Scores:
    scores = table.best.scores
    assert isinstance(scores, Scores)  # noqa: S101
    return scores
