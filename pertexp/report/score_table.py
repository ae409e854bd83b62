"""The table of scores of one run, which several sections of its page use."""

from collections.abc import Sequence
from dataclasses import dataclass

from pertexp.evaluation.roles import RowRoles
from pertexp.report.tables import Column, FamilyTable, Row, best_row, columns_of, family_tables, rows_of
from pertexp.runs.schema import CalibrationRow, RunMetrics


@dataclass(frozen=True)
class ScoreTable:
    """Rows and columns of a run.

    Attributes
    ----------
    roles
        What each row is.
    columns, rows
        Metrics, and scored names.
    primary
        Column of the primary metric; None where it has no score.
    baseline
        The best baseline on it; None where there is none.
    """

    roles: RowRoles
    columns: list[Column]
    rows: list[Row]
    primary: Column | None
    baseline: Row | None

    @classmethod
    def of(cls, metrics: RunMetrics, calibration: Sequence[CalibrationRow] = ()) -> "ScoreTable":
        """Lay out what metrics.json holds; `calibration` says how far each metric is to be trusted."""
        roles = RowRoles.of_metrics(metrics)
        columns, rows = columns_of(metrics.aggregate, calibration), rows_of(metrics.aggregate, roles)
        primary = next((column for column in columns if column.name == metrics.primary), None)
        baseline = None if primary is None else best_row([row for row in rows if row.kind == "baseline"], primary)
        return cls(roles, columns, rows, primary, baseline)

    @property
    def families(self) -> list[FamilyTable]:
        """One table a family, the best of each column marked."""
        return family_tables(self.columns, self.rows)
