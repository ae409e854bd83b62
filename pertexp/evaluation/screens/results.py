"""What runs on screens were judged by: values unit by unit, of every metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pertexp.errors import DataError
from pertexp.evaluation.results.evidence import Evidence, Standing
from pertexp.evaluation.screens.measuring import UNIT, Measured, pooled, stored
from pertexp.evaluation.screens.scoring import Scores, verdict
from pertexp.metrics.registry import METRICS
from pertexp.report.screens.tables import screen_footnotes, screen_tiles
from pertexp.report.tables import Column, Row, Tile, kind_of
from pertexp.runs.reading import Summary, Trust, read_summary


@dataclass(frozen=True, eq=False)
class ScreenEvidence(Evidence):
    """Test units of screens; over seeds, the mean of every value of every unit."""

    model: str
    measured: Measured

    @classmethod
    def of(cls, folder: Path) -> "ScreenEvidence":
        """Of a finished run, on the metrics that this version knows."""
        model, measured = read_summary(folder, Summary).model, stored(folder)
        known = _numeric(measured.per_unit, ["value"], folder / "metrics.parquet")
        trust = measured.reliability
        trust = trust if trust.empty else _numeric(trust, ["drf", "bds"], folder / "calibration.parquet")
        if "model" not in known or model not in set(known["model"]):
            raise DataError(f"{folder} holds no score of {model} on a metric that this version knows.")
        return cls(model, Measured(known, trust, measured.scale))

    @classmethod
    def pooled(cls, parts: Sequence["ScreenEvidence"]) -> "ScreenEvidence":
        """Units of several folds, joined."""
        return cls(parts[0].model, pooled([part.measured for part in parts]))

    @classmethod
    def averaged(cls, parts: Sequence["ScreenEvidence"]) -> "ScreenEvidence":
        """The mean over seeds, unit by unit."""
        return cls(parts[0].model, _averaged([part.measured for part in parts]))

    @cached_property
    def tested(self) -> tuple[int, ...]:
        """Folds that its units were held out in."""
        return tuple(sorted({int(fold) for fold in self.measured.per_unit["fold"]}))

    @property
    def where(self) -> str:
        """The folds."""
        return ", ".join(map(str, self.tested))

    @cached_property
    def units(self) -> frozenset[tuple[Any, ...]]:
        """Perturbation, context and fold of all that it was judged by."""
        return frozenset(self.measured.per_unit[UNIT[:3]].drop_duplicates().itertuples(index=False, name=None))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self.measured.per_unit["metric"].unique())

    def means(self) -> pd.DataFrame:
        """Means over the units."""
        table = self.measured.per_unit
        return table.pivot_table(index="model", columns="metric", values="value", aggfunc="mean", sort=False)

    def beside(self, first: "ScreenEvidence") -> "ScreenEvidence":  # noqa: ARG002
        """All of it: its intervals cost little."""
        return self

    def standing(self, primary: str) -> Standing:
        """Scores over the units."""
        return _ScreenStanding(self.model, Scores.of(self.measured, primary, seed=0), self.tested)


@dataclass(frozen=True, eq=False)
class _ScreenStanding:
    model: str
    scores: Scores
    folds: tuple[int, ...]

    @property
    def models(self) -> tuple[str, ...]:
        return self.scores.models

    @property
    def aggregate(self) -> pd.DataFrame:
        return self.scores.aggregate

    def summary(self, model: str, metric: str) -> pd.Series:
        return self.scores.summary(model, metric)

    def verdict(self) -> list[str]:
        return verdict(self.scores, self.model)

    def kind(self, name: str) -> str:
        return kind_of(name, self.model)

    def note(self, name: str) -> str:  # noqa: ARG002
        return ""

    @property
    def trust(self) -> list[Trust]:
        rows = self.scores.calibration.to_dict("records")
        return [Trust(**{str(key): row[key] for key in row if key in Trust.__dataclass_fields__}) for row in rows]

    @property
    def said(self) -> str:
        folds = ", ".join(map(str, self.folds))
        table = self.scores.per_unit
        contexts = table["context"].nunique()
        words = [f"folds {folds} pooled" if len(self.folds) > 1 else f"fold {folds}"]
        words.append(f"{table['perturbation'].nunique()} held-out perturbations")
        words += [f"{contexts} contexts"] if contexts > 1 else []
        return f"{', '.join(words)}; scale: {self.scores.scale}"

    def chance(self, metric: str) -> float | None:  # noqa: ARG002
        return None

    def tiles(self, rows: Sequence[Row], baseline: Row | None, column: Column) -> list[Tile]:
        return screen_tiles(rows, baseline, column)

    def footnotes(self, columns: Sequence[Column]) -> list[str]:
        return screen_footnotes(columns)


def _numeric(table: pd.DataFrame, values: list[str], path: Path) -> pd.DataFrame:
    """Rows on metrics that this version knows, values as numbers; refused where it is no table that a run wrote."""
    missing = {"metric", *UNIT, *values} - set(table.columns)
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}; expected what a run writes.")
    try:
        kinds: dict[str, Any] = {"fold": int, "seen": int} | dict.fromkeys(values, float)
        typed = table.astype(kinds)
    except (TypeError, ValueError) as fault:
        raise DataError(f"{path} holds no numbers where a run writes some ({fault}).") from fault
    return typed[typed["metric"].isin(list(METRICS))]


def _averaged(parts: list[Measured]) -> Measured:
    """The mean over seeds of every value of every unit."""
    if len(parts) == 1:
        return parts[0]
    keys = ["model", "metric", *UNIT]
    joined = pd.concat([part.per_unit for part in parts])
    per_unit = joined.groupby(keys, sort=False, as_index=False)[["value"]].mean()
    trust = parts[0].reliability
    if all(not part.reliability.empty for part in parts):
        tried = pd.concat([part.reliability for part in parts])
        trust = tried.groupby(["metric", *UNIT], sort=False, as_index=False)[["drf", "bds"]].mean()
    return Measured(per_unit, trust, parts[0].scale)
