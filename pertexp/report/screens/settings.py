"""Text around a table of settings of screens."""

from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from pertexp.evaluation.comparison import ScoredRows
from pertexp.evaluation.results.tables import ResultsTable
from pertexp.evaluation.screens.results import SEVERAL
from pertexp.report.screens.tables import screen_footnotes, screen_tiles
from pertexp.report.tables import Column, Row, Tile
from pertexp.runs import documents
from pertexp.runs.schema import CalibrationRow


class UnitScores(ScoredRows, Protocol):
    """Scores of screens, unit by unit."""

    @property
    def per_unit(self) -> pd.DataFrame:
        """A row per model, metric and unit: perturbation and context among its columns."""

    @property
    def calibration(self) -> pd.DataFrame:
        """How far each metric is to be trusted; empty where that is not known."""

    @property
    def scale(self) -> str:
        """Scale of what was scored, in words."""


class ScreenSettings:
    """Units, calibration and footnotes of screens."""

    def tested(self, table: ResultsTable[UnitScores]) -> str:
        """Return folds, what was predicted of how many perturbations, contexts and scale."""
        scores = table.best.scores
        units, folds = scores.per_unit, table.best.setting.results.tested
        several = len(folds) > 1 or folds == (SEVERAL,)
        words = [f"folds {table.best.setting.results.where} pooled" if several else f"fold {folds[0]}"]
        predicted = table.best.setting.runs[0].metrics.predicts
        words.append(f"{predicted}s of {units['perturbation'].nunique()} held-out perturbations")
        contexts = units["context"].nunique()
        words += [f"{contexts} contexts"] if contexts > 1 else []
        return f"{', '.join(words)}; scale: {scores.scale}"

    def notes(self, table: ResultsTable[UnitScores]) -> list[str]:  # noqa: ARG002
        """None."""
        return []

    def calibration(self, table: ResultsTable[UnitScores]) -> list[CalibrationRow]:
        """Calibration of every metric, from the first setting that has it."""
        found: dict[str, CalibrationRow] = {}
        for one in table.settings:
            for row in documents.rows(CalibrationRow, one.scores.calibration):
                found.setdefault(row.metric, row)
        return list(found.values())

    def chance(self, table: ResultsTable[UnitScores], metric: str) -> float | None:  # noqa: ARG002
        """None: the baselines say it."""
        return None

    def tiles(
        self,
        table: ResultsTable[UnitScores],  # noqa: ARG002
        rows: Sequence[Row],
        baseline: Row | None,
        column: Column,
    ) -> list[Tile]:
        """Return the model, the best baseline, the replicate."""
        return screen_tiles(rows, baseline, column)

    def footnotes(self, table: ResultsTable[UnitScores], columns: Sequence[Column]) -> list[str]:  # noqa: ARG002
        """Return how the table is to be read."""
        return screen_footnotes(columns)
