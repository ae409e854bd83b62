"""The metric families that `evaluation=` chooses from: what each computes from a prediction, and where it applies."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np

from pertexp.data.screens.screen import members
from pertexp.evaluation.roles import REPLICATE
from pertexp.evaluation.screens.cells import Half, TestedCells
from pertexp.evaluation.screens.frame import EvaluationFrame
from pertexp.metrics import cell_eval, gears, vcc2026
from pertexp.metrics.cells import Cells
from pertexp.metrics.core import CORE
from pertexp.metrics.impact import IMPACT
from pertexp.metrics.metric import Metric

Values = dict[str, np.ndarray]
_KEPT_SIDES = 4  # summarised at once: one truth, the two negative controls, the prediction at hand


class FamilyScorer(Protocol):
    """Scorer of a family for one evaluation: values `[U]` of its metrics by name, NaN where one does not apply."""

    def prediction(self, name: str) -> Values:
        """Compare a prediction with all real cells."""

    def replicate(self, split: int) -> Values:
        """Compare one half of the cells with the other."""

    def on_half(self, name: str, split: int) -> Values:
        """Compare a prediction with the half on which the replicate is scored."""


class Family(Protocol):
    """A family of metrics: an entry of `evaluation.families`, in this package or in another.

    `OnFrame` is one whose metrics look at profiles, their truth and tests (`Scored`), and so needs `metrics` alone.
    """

    @property
    def metrics(self) -> dict[str, Metric]:
        """Its rows of the table of metrics; in another package than this, names begin with the family and a slash."""

    def scorer(self, frame: EvaluationFrame, cells: TestedCells) -> FamilyScorer:
        """Return the scorer of one evaluation."""


class OnFrame:
    """A family whose metrics need only a `Scored` view of the frame: a subclass names its `metrics`."""

    metrics: dict[str, Metric]

    def scorer(self, frame: EvaluationFrame, cells: TestedCells) -> FamilyScorer:  # noqa: ARG002
        """Return a scorer; all that these metrics need is in the frame."""
        return _OnFrame(frame, self.metrics)


class Core(OnFrame):
    """Our rules, on profiles, with tests of differential expression on the real cells."""

    metrics = CORE


class ImpactRankings(OnFrame):
    """Rankings of genes, with tests of differential expression on the real cells."""

    metrics = IMPACT


@dataclass(frozen=True)
class _OnFrame:
    frame: EvaluationFrame
    metrics: dict[str, Metric]

    def prediction(self, name: str) -> Values:
        return self._values(self.frame.scored(name))

    def replicate(self, split: int) -> Values:
        return self._values(self.frame.scored(REPLICATE, split))

    def on_half(self, name: str, split: int) -> Values:
        return self._values(self.frame.scored_on_half(name, split))

    def _values(self, view: Any) -> Values:
        untested = np.full(len(self.frame.perturbation), np.nan)
        tested = not all(np.isnan(table).all() for table in (self.frame.de_score, self.frame.rest_score))
        return {
            name: metric.function(view) if tested or not metric.needs_de else untested
            for name, metric in self.metrics.items()
        }


class OnCells:
    """A family that needs cells: truth and prediction are summarised once per pool, then compared."""

    name: str
    metrics: dict[str, Metric]
    summarise: Callable[[Cells], Any]
    own_control = False  # whether predictions that bring control cells are compared with those

    def view(self, truth: Any, prediction: Any, frame: EvaluationFrame, rows: np.ndarray, pool_facts: Any) -> Any:
        """Return what the family's metrics see of a pool."""
        raise NotImplementedError

    def pool_facts(self, cells: TestedCells, frame: EvaluationFrame, rows: np.ndarray) -> Any:  # noqa: ARG002
        """Return what is known of a pool whatever is compared, computed once."""
        return None

    def scorer(self, frame: EvaluationFrame, cells: TestedCells) -> FamilyScorer:
        """Return a scorer that summarises cells when a value is asked for."""
        return _OnPools(self, frame, cells)


class _OnPools:
    def __init__(self, family: OnCells, frame: EvaluationFrame, cells: TestedCells) -> None:
        self._family, self._frame, self._cells = family, frame, cells
        self._pools = cells.pools
        self._pool_facts = cache(lambda pool: family.pool_facts(cells, frame, self._pools[pool]))
        self._side = lru_cache(maxsize=_KEPT_SIDES * len(self._pools))(self._summarised)

    def prediction(self, name: str) -> Values:
        return self._values(name, None)

    def replicate(self, split: int) -> Values:
        return self._values(Half(split, 0), Half(split, 1))

    def on_half(self, name: str, split: int) -> Values:
        return self._values(name, Half(split, 1))

    def _values(self, prediction: str | Half, truth: Half | None) -> Values:
        values = {name: np.full(self._frame.n_units, np.nan) for name in self._family.metrics}
        for pool, rows in enumerate(self._pools):
            sides = self._side(truth, pool), self._side(prediction, pool)
            view = self._family.view(*sides, self._frame, rows, self._pool_facts(pool))
            for name, metric in self._family.metrics.items():
                values[name][rows] = metric.function(view)
        return values

    def _summarised(self, source: str | Half | None, pool: int) -> Any:
        rows = self._pools[pool]
        if isinstance(source, str):
            profile = self._frame.predicted(source)
            cells = self._cells.predicted(source, profile, rows, own_control=self._family.own_control)
        else:
            cells = self._cells.real(rows, source)
        return type(self._family).summarise(cells)


class CellEval(OnCells):
    """Names and values of cell-eval 0.8.2; each context is a data set of its own there."""

    name = "cell_eval"
    own_control = True
    metrics = cell_eval.CELL_EVAL
    summarise = staticmethod(cell_eval.summarise)

    def view(
        self,
        truth: Any,
        prediction: Any,
        frame: EvaluationFrame,
        rows: np.ndarray,
        pool_facts: None,  # noqa: ARG002
    ) -> cell_eval.CellEvalView:
        """Return a perturbation is its own target where a gene bears its name."""
        column = {gene: position for position, gene in enumerate(frame.genes)}
        return cell_eval.CellEvalView(
            truth, prediction, np.array([column.get(frame.perturbation[row], -1) for row in rows])
        )


class Vcc2026(OnCells):
    """The six metrics of the Virtual Cell Challenge 2026, on counts."""

    name = "vcc2026"
    metrics = vcc2026.VCC2026
    summarise = staticmethod(vcc2026.summarise)

    def view(
        self, truth: Any, prediction: Any, frame: EvaluationFrame, rows: np.ndarray, pool_facts: float
    ) -> vcc2026.CountView:
        """Members of the perturbation are its targets."""
        return vcc2026.CountView(truth, prediction, frame.own_target[rows], np.array(frame.genes), pool_facts)

    def pool_facts(self, cells: TestedCells, frame: EvaluationFrame, rows: np.ndarray) -> float:
        """Measure the size of effects over all perturbations of the context: over those of one fold it may be noise."""
        everyone, names = cells.all_perturbed(rows)
        column = {gene: position for position, gene in enumerate(frame.genes)}
        own = np.zeros((len(names), len(frame.genes)), dtype=bool)
        for unit, name in enumerate(names):
            own[unit, [column[gene] for gene in members(name) if gene in column]] = True
        return vcc2026.effect_size_of(everyone, own)


class Gears(OnCells):
    """The top-20 metrics of the GEARS paper."""

    name = "gears"
    metrics = gears.GEARS
    summarise = staticmethod(gears.summarise)

    def view(
        self,
        truth: Any,
        prediction: Any,
        frame: EvaluationFrame,  # noqa: ARG002
        rows: np.ndarray,  # noqa: ARG002
        pool_facts: None,  # noqa: ARG002
    ) -> gears.LogView:
        """Return both sides are all there is to see."""
        return gears.LogView(truth, prediction)
