"""From the table of scored pairs to means over cell lines and folds, their intervals, and paired differences."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pertexp.errors import RequestError, nearest
from pertexp.evaluation.claims import Difference
from pertexp.evaluation.pairs.predictions import UNIT
from pertexp.evaluation.pairs.resampling import Resamples
from pertexp.evaluation.screens.scoring import records
from pertexp.metrics.pairs import PAIRS, ScoredPairs

Values = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Said:
    """What one model said of all pairs, in the order of the units: `probability` and `called` `[n]`, or None."""

    probability: np.ndarray
    called: np.ndarray | None

    def of(self, label: np.ndarray, rows: np.ndarray, weight: np.ndarray | None = None) -> ScoredPairs:
        """Some of the pairs as metrics see them; `weight` `[R, n]` is of all pairs."""
        called = None if self.called is None else self.called[rows]
        return ScoredPairs(self.probability[rows], label[rows], called, None if weight is None else weight[:, rows])


@dataclass(frozen=True, eq=False)
class PairScores:
    """Every metric of every model, worked out from the table of pairs alone.

    The value of a model is the mean over cell lines of the mean over folds. Each fold was predicted by a model of its
    own, and the probabilities of different models are on no common scale, so pairs are ranked within a fold alone. A
    line with more pairs, or more positives, counts no more than another.

    Attributes
    ----------
    predictions
        The table: see `predictions.COLUMNS`.
    primary
        The metric that orders tables.
    n_resamples, seed
        Of the bootstrap.
    """

    predictions: pd.DataFrame
    primary: str = "auprc"
    n_resamples: int = 2000
    seed: int = 0

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
        """None: pairs have no replicate to tell."""
        return ()

    @cached_property
    def units(self) -> pd.DataFrame:
        """The scored pairs, once: cell_line, enhancer, promoter, chromosome, fold, label."""
        table = self.predictions
        return table.loc[table["model"] == self.models[0], [*UNIT, "label"]].reset_index(drop=True)

    @cached_property
    def lines(self) -> dict[str, np.ndarray]:
        """Pairs `[n]` of every cell line, by its name."""
        names = self.units["cell_line"].to_numpy(dtype=str)
        return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}

    @cached_property
    def cells(self) -> dict[tuple[str, int], np.ndarray]:
        """Pairs `[n]` of every cell line and fold, sorted: what one model ranked."""
        lines, folds = self.units["cell_line"].to_numpy(dtype=str), self.units["fold"].to_numpy(dtype=np.int64)
        found = sorted(set(zip(lines.tolist(), folds.tolist(), strict=True)))
        return {(line, fold): np.flatnonzero((lines == line) & (folds == fold)) for line, fold in found}

    @cached_property
    def resamples(self) -> Resamples:
        """The draws that all intervals share."""
        return Resamples.of(self.units, self.n_resamples, self.seed)

    @cached_property
    def said(self) -> dict[str, Said]:
        """What every model said of the units, in their order."""
        keyed = pd.MultiIndex.from_frame(self.units[UNIT])
        return {
            str(name): _said(part.set_index(UNIT).loc[keyed])
            for name, part in self.predictions.groupby("model", sort=False)
        }

    @cached_property
    def aggregate(self) -> pd.DataFrame:
        """A row per model and metric: mean over lines, low, high, n, n_lines, n_left_out, prevalence, best, worst."""
        rows = []
        for (model, metric), own in self.by_line.groupby(["model", "metric"], sort=False):
            low, high = self.resamples.interval(self._mean_over_lines(str(model), str(metric)))
            row: dict[str, Any] = {"model": model, "metric": metric, "mean": own["value"].mean()}
            row |= {"low": low, "high": high, "n": int((own["n"] - own["n_left_out"]).sum())}
            row |= {"n_lines": int(own["value"].notna().sum()), "n_left_out": int(own["n_left_out"].sum())}
            row |= {"prevalence": _beside(own), "best": PAIRS[str(metric)].best, "worst": PAIRS[str(metric)].worst}
            rows.append(row)
        return pd.DataFrame.from_records(rows)

    def means(self) -> pd.DataFrame:
        """`[model × metric]` mean over lines of the mean over folds; cheap, since it needs no resample."""
        of_lines = self.by_fold.groupby(["model", "metric", "cell_line"], sort=False)["value"].mean()
        means = of_lines.groupby(["model", "metric"], sort=False).mean().dropna().unstack("metric")
        return means.loc[list(self.models), [name for name in self.metrics if name in means]]

    @cached_property
    def by_line(self) -> pd.DataFrame:
        """A row per model, metric and cell line: value (mean over folds), low, high, n, n_left_out, prevalence."""
        rows = []
        for key, own in self.by_fold.groupby(["model", "metric", "cell_line"], sort=False):
            model, metric, line = map(str, key)
            low, high = self.resamples.interval(self._mean_over_folds(model, metric, line))
            row: dict[str, Any] = {"model": model, "metric": metric, "cell_line": line, "value": own["value"].mean()}
            row |= {"low": low, "high": high, "n": int(own["n"].sum())}
            row |= {"n_left_out": int(own.loc[own["value"].isna(), "n"].sum()), "prevalence": _beside(own)}
            rows.append(row)
        return pd.DataFrame.from_records(rows)

    @cached_property
    def by_fold(self) -> pd.DataFrame:
        """A row per model, metric, cell line and fold: value, n, prevalence."""
        return self._valued(self.cells, ["cell_line", "fold"])

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """A row per model and metric over all pairs of all lines and folds at once: value, low, high, n, prevalence.

        No value of a model: it ranks what different models said, and what knows nothing may leave 0.5 on auroc, since
        each fold is predicted with the base rate of the others.
        """
        everything = {(): np.arange(len(self.units))}
        return self._valued(everything, [], lambda model, metric: self.drawn_at_once[model][metric][:, 0])

    def summary(self, model: str, metric: str) -> pd.Series:
        """Aggregate row of one model and metric."""
        table = self.aggregate
        return table[(table["model"] == model) & (table["metric"] == metric)].iloc[0]

    def difference(self, model: str, other: str, metric: str) -> Difference:
        """Mean over lines of model minus other, with the interval over resamples that both share."""
        drawn = self._mean_over_lines(model, metric) - self._mean_over_lines(other, metric)
        low, high = self.resamples.interval(drawn)
        mean = self.summary(model, metric)["mean"] - self.summary(other, metric)["mean"]
        if self.resamples.by_chromosome:
            count = self.resamples.n_clusters
            return Difference(float(mean), low, high, count, f"{count} chromosomes")
        ones = int(self.units["label"].sum())
        fewer = min(ones, len(self.units) - ones)
        return Difference(float(mean), low, high, fewer, f"{len(self.units)} pairs ({ones} positive)")

    def require(self, model: str) -> None:
        """RequestError where a model was not scored."""
        if model not in self.models:
            raise RequestError(f"{model!r} was not scored; {nearest(model, self.models)}")

    def document(self) -> dict[str, Any]:
        """The scores as plain values."""
        tables = {name: records(getattr(self, name)) for name in ("aggregate", "by_line", "by_fold", "pooled")}
        return {"primary": self.primary, "scale": "probability", "n_resamples": self.n_resamples, "seed": self.seed,
                "intervals": self.resamples.said, **tables}  # fmt: skip

    def _mean_over_lines(self, model: str, metric: str) -> np.ndarray:
        """`[R]` mean over the lines where the metric applies; a resample that lacks one of them is NaN."""
        own = self.by_line[(self.by_line["model"] == model) & (self.by_line["metric"] == metric)]
        lines = own.loc[own["value"].notna(), "cell_line"]
        if lines.empty:
            return np.full(self.n_resamples, np.nan)
        return np.mean([self._mean_over_folds(model, metric, line) for line in lines], axis=0)

    def _mean_over_folds(self, model: str, metric: str, line: str) -> np.ndarray:
        """`[R]` mean over the folds of a line in which a resample has a value; NaN where it has none in any."""
        own = [place for place, (name, _) in enumerate(self.cells) if name == line]
        drawn = self.drawn[model][metric][:, own]
        known = ~np.isnan(drawn)
        count = known.sum(axis=1)
        return np.where(count > 0, np.where(known, drawn, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)

    @cached_property
    def drawn(self) -> dict[str, Values]:
        """By model and metric `[R, C]`: the resampled values of every line and fold."""
        return self._resampled(list(self.cells.values()))

    @cached_property
    def drawn_at_once(self) -> dict[str, Values]:
        """By model and metric `[R, 1]`: the resampled values of all pairs at once."""
        return self.drawn if len(self.cells) == 1 else self._resampled([np.arange(len(self.units))])

    def _resampled(self, groups: list[np.ndarray]) -> dict[str, Values]:
        """By model and metric `[R, groups]`."""
        label = self.units["label"].to_numpy()
        parts: dict[str, list[Values]] = {model: [] for model in self.models}
        for weight in self.resamples.blocks():
            for model, said in self.said.items():
                parts[model].append(_values(said, label, groups, weight))
        return {
            model: {metric: np.concatenate([part[metric] for part in drawn]) for metric in PAIRS}
            for model, drawn in parts.items()
        }

    def _valued(self, groups: Mapping[Any, np.ndarray], keys: list[str], drawn: Any = None) -> pd.DataFrame:
        """Values of every model and metric over groups of pairs, with intervals where `drawn` gives resamples."""
        label = self.units["label"].to_numpy()
        rows = []
        for model, said in self.said.items():
            views = {group: said.of(label, members) for group, members in groups.items()}
            for metric in self.metrics:
                for group, view in views.items():
                    row: dict[str, Any] = {"model": model, "metric": metric, **dict(zip(keys, group, strict=True))}
                    row["value"] = float(PAIRS[metric].function(view)[0])
                    if drawn is not None:
                        row["low"], row["high"] = self.resamples.interval(drawn(model, metric))
                    rows.append(row | {"n": len(view.label), "prevalence": float(view.label.mean())})
        return pd.DataFrame.from_records(rows)


def _said(part: pd.DataFrame) -> Said:
    called = part["called"]
    known = None if called.isna().any() else called.to_numpy(dtype=bool)
    return Said(part["probability"].to_numpy(dtype=np.float64), known)


def _beside(rows: pd.DataFrame) -> float:
    """Mean prevalence of the rows that have a value, of all where none has: chance, as the mean of values has it."""
    defined = rows["value"].notna()
    return float(rows.loc[defined if defined.any() else slice(None), "prevalence"].mean())


def _values(said: Said, label: np.ndarray, groups: list[np.ndarray], weight: np.ndarray) -> Values:
    """By metric `[r, groups]`."""
    views = [said.of(label, rows, weight) for rows in groups]
    return {name: np.stack([metric.function(view) for view in views], axis=1) for name, metric in PAIRS.items()}
