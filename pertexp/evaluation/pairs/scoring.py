"""Means over cell lines and folds from the table of scored pairs, their intervals, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from pertexp.data.pairs.pairs import KEY
from pertexp.evaluation.bootstrap import ClusterBootstrap
from pertexp.evaluation.comparison import FEWEST, Difference
from pertexp.metrics.pairs import PAIRS, ScoredPairs
from pertexp.runs import documents
from pertexp.runs.schema import Bootstrap, GroupScore, ScoreRow

REPEAT = "repeat"  # column: number of the seed, where a table holds several
_PAIR = [*KEY, "chromosome"]
Values = dict[str, np.ndarray]
Cell = tuple[int, str, int]  # repeat, cell line, fold: what one trained model ranked


@dataclass(frozen=True, eq=False)
class _Predicted:
    """What one trained model predicts of `[m]` pairs: their numbers, probabilities, and calls, or None."""

    unit: np.ndarray
    probability: np.ndarray
    called: np.ndarray | None

    def view(self, label: np.ndarray, weight: np.ndarray | None = None) -> ScoredPairs:
        """Return the pairs as metrics see them; `label [n]` and `weight [R, n]` are of all pairs."""
        own = None if weight is None else weight[:, self.unit]
        return ScoredPairs(self.probability, label[self.unit], self.called, own)


@dataclass(frozen=True, eq=False)
class PairScores:
    """Every metric of every row, computed from the table of pairs alone.

    The value of a row is the mean over cell lines of the mean over seeds of the mean over folds. Each fold was
    predicted by a model of its own, and the probabilities of different models are on no common scale, so pairs are
    ranked within a fold alone. A line with more pairs, or more positives, counts no more than another.

    Attributes
    ----------
    predictions
        The table: see `predictions.COLUMNS`, with a column `repeat` where it holds several seeds.
    primary
        The metric that orders tables.
    n_resamples, seed
        Of the bootstrap: over chromosomes where pairs lie on six or more, as folds that are pooled do, else over pairs.
    """

    predictions: pd.DataFrame
    primary: str = "auprc"
    n_resamples: int = 2000
    seed: int = 0
    remedy: ClassVar[str] = "pool lines and folds with -m data.split.line=...,... data.split.fold=0,1,..."

    @property
    def models(self) -> tuple[str, ...]:
        """Names in the order of the table: the model, its masked rows, the baselines."""
        return tuple(self.predictions["model"].unique())

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, the primary one first."""
        return tuple(dict.fromkeys([self.primary, *PAIRS]))

    @property
    def headline(self) -> tuple[str, ...]:
        """The primary metric, then the others that a verdict is about."""
        return tuple(name for name in self.metrics if name == self.primary or PAIRS[name].level == "headline")

    @property
    def untrusted(self) -> tuple[str, ...]:
        """None: pairs have no replicate to calibrate with."""
        return ()

    @cached_property
    def units(self) -> pd.DataFrame:
        """The scored pairs, once: cell_line, enhancer, promoter, chromosome, label."""
        return self.predictions[[*_PAIR, "label"]].drop_duplicates(_PAIR, ignore_index=True)

    @cached_property
    def lines(self) -> dict[str, np.ndarray]:
        """Numbers of the pairs of every cell line, by its name."""
        names = self.units["cell_line"].to_numpy(dtype=str)
        return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}

    @property
    def n_folds(self) -> int:
        """Folds that pairs were held out in."""
        return int(self.predictions["fold"].nunique())

    @cached_property
    def by_chromosome(self) -> bool:
        """Whether chromosomes are resampled; else pairs are."""
        return self.units["chromosome"].nunique() >= FEWEST

    @cached_property
    def bootstrap(self) -> ClusterBootstrap:
        """The resamples that all intervals share."""
        _, cluster = np.unique(self.units["chromosome"].to_numpy(dtype=str), return_inverse=True)
        own = cluster if self.by_chromosome else np.arange(len(self.units))
        return ClusterBootstrap(own, self.n_resamples, self.seed)

    @property
    def over(self) -> str:
        """What is resampled, in words."""
        if self.by_chromosome:
            return f"over {self.bootstrap.n_clusters} chromosomes"
        return "over pairs: too few chromosomes, as in a single fold, so they are too narrow where pairs share elements"

    @cached_property
    def aggregate(self) -> pd.DataFrame:
        """A row per model and metric: mean over lines, low, high, n, n_lines, n_left_out, prevalence, best, worst."""
        rows = []
        for (model, metric), own in self.by_line.groupby(["model", "metric"], sort=False):
            low, high = self.bootstrap.interval(self._mean_over_lines(str(model), str(metric)))
            row: dict[str, Any] = {"model": model, "metric": metric, "mean": own["value"].mean()}
            row |= {"low": low, "high": high, "n": int((own["n"] - own["n_left_out"]).sum())}
            row |= {"n_lines": int(own["value"].notna().sum()), "n_left_out": int(own["n_left_out"].sum())}
            row |= {"prevalence": _prevalence(own), "best": PAIRS[str(metric)].best, "worst": PAIRS[str(metric)].worst}
            rows.append(row)
        return pd.DataFrame.from_records(rows)

    def means(self) -> pd.DataFrame:
        """Return `[model × metric]` mean over lines, without intervals: cheap, since it needs no resample."""
        of_seeds = self._by_cell.groupby(["model", "metric", "cell_line", REPEAT], sort=False)["value"].mean()
        of_lines = of_seeds.groupby(["model", "metric", "cell_line"], sort=False).mean()
        means = of_lines.groupby(["model", "metric"], sort=False).mean().dropna().unstack("metric")
        return means.loc[list(self.models), [name for name in self.metrics if name in means]]

    @cached_property
    def by_line(self) -> pd.DataFrame:
        """A row per model, metric and cell line: value, low, high, n, n_left_out, prevalence."""
        rows = []
        for key, own in self._by_cell.groupby(["model", "metric", "cell_line"], sort=False):
            model, metric, line = map(str, key)
            low, high = self.bootstrap.interval(self._mean_over_seeds(model, metric, line))
            value = own.groupby(REPEAT)["value"].mean().mean()
            row: dict[str, Any] = {"model": model, "metric": metric, "cell_line": line, "value": value}
            row |= {"low": low, "high": high, **self._sizes(own), "prevalence": _prevalence(own)}
            rows.append(row)
        return pd.DataFrame.from_records(rows)

    @cached_property
    def by_fold(self) -> pd.DataFrame:
        """A row per model, metric, cell line and fold: value (mean over seeds), n, prevalence."""
        keys = ["model", "metric", "cell_line", "fold"]
        grouped = self._by_cell.groupby(keys, sort=False, as_index=False)
        return grouped.agg(value=("value", "mean"), n=("n", "max"), prevalence=("prevalence", "mean"))

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """A row per model and metric over all pairs of all lines and folds at once: value, low, high, n, prevalence.

        No value of a model: it ranks what different models predict, and a constant prediction may leave 0.5 on auroc,
        since each fold is predicted with the base rate of the others.
        """
        rows, label = [], self._label
        for model, of_repeats in self._at_once.items():
            views = [part.view(label) for part in of_repeats]
            for metric in self.metrics:
                value = np.mean([float(PAIRS[metric].function(view)[0]) for view in views])
                low, high = self.bootstrap.interval(self._drawn_at_once[model][metric].mean(axis=1))
                row = {"model": model, "metric": metric, "value": value, "low": low, "high": high}
                rows.append(row | {"n": len(self.units), "prevalence": float(label.mean())})
        return pd.DataFrame.from_records(rows)

    def summary(self, model: str, metric: str) -> pd.Series:
        """Aggregate row of one model and metric."""
        table = self.aggregate
        return table[(table["model"] == model) & (table["metric"] == metric)].iloc[0]

    def difference(self, model: str, other: str, metric: str) -> Difference:
        """Return the mean over lines of model minus other, with the interval over resamples that both share."""
        drawn = self._mean_over_lines(model, metric) - self._mean_over_lines(other, metric)
        low, high = self.bootstrap.interval(drawn)
        mean = float(self.summary(model, metric)["mean"] - self.summary(other, metric)["mean"])
        if self.by_chromosome:
            count = self.bootstrap.n_clusters
            return Difference(mean, low, high, count, f"{count} chromosomes")
        ones = int(self.units["label"].sum())
        fewer = min(ones, len(self.units) - ones)
        return Difference(mean, low, high, fewer, f"{len(self.units)} pairs ({ones} positive)")

    def tables(self) -> dict[str, Any]:
        """Return the scores as metrics.json holds them."""
        groups = {name: documents.rows(GroupScore, getattr(self, name)) for name in ("by_line", "by_fold", "pooled")}
        bootstrap = Bootstrap(self.n_resamples, self.seed, over=self.over)
        return {"bootstrap": bootstrap, "aggregate": documents.rows(ScoreRow, self.aggregate), **groups}

    @cached_property
    def _label(self) -> np.ndarray:
        return self.units["label"].to_numpy()

    @cached_property
    def _cells(self) -> dict[str, dict[Cell, _Predicted]]:
        """By model what each of its trained models predicts, sorted by seed, cell line and fold."""
        number = pd.Series(np.arange(len(self.units)), index=pd.MultiIndex.from_frame(self.units[_PAIR]))
        table = self.predictions
        table = table.assign(unit=number.loc[pd.MultiIndex.from_frame(table[_PAIR])].to_numpy())
        table = table if REPEAT in table else table.assign(**{REPEAT: 0})
        cells: dict[str, dict[Cell, _Predicted]] = {}
        for model, own in table.groupby("model", sort=False):
            cells[str(model)] = {
                (int(str(repeat)), str(line), int(str(fold))): _predicted(part)
                for (repeat, line, fold), part in own.groupby([REPEAT, "cell_line", "fold"])
            }
        return cells

    @cached_property
    def _at_once(self) -> dict[str, list[_Predicted]]:
        """By model what it predicts of all pairs, for each seed."""
        found = {}
        for model, cells in self._cells.items():
            repeats = sorted({repeat for repeat, _, _ in cells})
            found[model] = [_joined([cells[cell] for cell in cells if cell[0] == repeat]) for repeat in repeats]
        return found

    @cached_property
    def _by_cell(self) -> pd.DataFrame:
        """A row per model, metric, seed, cell line and fold: value, n, prevalence."""
        rows = []
        for model, cells in self._cells.items():
            views = {cell: part.view(self._label) for cell, part in cells.items()}
            for metric in self.metrics:
                for (repeat, line, fold), view in views.items():
                    row = {"model": model, "metric": metric, REPEAT: repeat, "cell_line": line, "fold": fold}
                    row["value"] = float(PAIRS[metric].function(view)[0])
                    rows.append(row | {"n": len(view.label), "prevalence": float(view.label.mean())})
        return pd.DataFrame.from_records(rows)

    def _sizes(self, own: pd.DataFrame) -> dict[str, int]:
        """Return pairs of a line, and those in folds without a value, of the seed that has most."""
        lacking = own["n"].where(own["value"].isna(), 0)
        return {
            "n": int(own.groupby(REPEAT)["n"].sum().max()),
            "n_left_out": int(lacking.groupby(own[REPEAT]).sum().max()),
        }

    def _mean_over_lines(self, model: str, metric: str) -> np.ndarray:
        """Return `[R]` mean over the lines where the metric applies; a resample that lacks one of them is NaN."""
        own = self.by_line[(self.by_line["model"] == model) & (self.by_line["metric"] == metric)]
        lines = own.loc[own["value"].notna(), "cell_line"]
        if lines.empty:
            return np.full(self.n_resamples, np.nan)
        mean: np.ndarray = np.mean([self._mean_over_seeds(model, metric, line) for line in lines], axis=0)
        return mean

    def _mean_over_seeds(self, model: str, metric: str, line: str) -> np.ndarray:
        """Average `[R]`, over seeds, the mean over the folds of a line; a resample that lacks a seed is NaN."""
        repeats = sorted({repeat for repeat, name, _ in self._cells[model] if name == line})
        mean: np.ndarray = np.mean([self._mean_over_folds(model, metric, repeat, line) for repeat in repeats], axis=0)
        return mean

    def _mean_over_folds(self, model: str, metric: str, repeat: int, line: str) -> np.ndarray:
        """Return `[R]` mean over the folds of a line in which a resample has a value; NaN where it has none in any."""
        own = [place for place, cell in enumerate(self._cells[model]) if cell[:2] == (repeat, line)]
        drawn = self._drawn[model][metric][:, own]
        known = ~np.isnan(drawn)
        count = known.sum(axis=1)
        return np.where(count > 0, np.where(known, drawn, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)

    @cached_property
    def _drawn(self) -> dict[str, Values]:
        """By model and metric `[R, C]`: the resampled values of each of its trained models."""
        return self._resampled({model: list(cells.values()) for model, cells in self._cells.items()})

    @cached_property
    def _drawn_at_once(self) -> dict[str, Values]:
        """By model and metric `[R, S]`: the resampled values of all pairs at once, for each seed."""
        single = all(len(cells) == 1 for cells in self._cells.values())
        return self._drawn if single else self._resampled(self._at_once)

    def _resampled(self, parts: Mapping[str, Sequence[_Predicted]]) -> dict[str, Values]:
        """By model and metric `[R, parts]`."""
        drawn: dict[str, list[Values]] = {model: [] for model in parts}
        for weight in self.bootstrap.weights():
            for model, of_model in parts.items():
                views = [part.view(self._label, weight) for part in of_model]
                drawn[model].append({
                    name: np.stack([metric.function(view) for view in views], axis=1) for name, metric in PAIRS.items()
                })  # fmt: skip
        return {
            model: {metric: np.concatenate([part[metric] for part in blocks]) for metric in PAIRS}
            for model, blocks in drawn.items()
        }


def _predicted(part: pd.DataFrame) -> _Predicted:
    called = part["called"]
    known = None if called.isna().any() else called.to_numpy(dtype=bool)
    return _Predicted(part["unit"].to_numpy(), part["probability"].to_numpy(dtype=np.float64), known)


def _joined(parts: Sequence[_Predicted]) -> _Predicted:
    """Several sets of pairs as one, in the order of the pairs."""
    unit = np.concatenate([part.unit for part in parts])
    calls = [part.called for part in parts if part.called is not None]
    order = np.argsort(unit, kind="stable")
    called = np.concatenate(calls)[order] if len(calls) == len(parts) else None
    return _Predicted(unit[order], np.concatenate([part.probability for part in parts])[order], called)


def _prevalence(rows: pd.DataFrame) -> float:
    """Average the prevalence of rows that have a value, of all where none has: chance, as the mean of values has it."""
    defined = rows["value"].notna()
    return float(rows.loc[defined if defined.any() else slice(None), "prevalence"].mean())
