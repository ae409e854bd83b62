"""Every metric by name, whatever its family; those of other packages are registered."""

from collections.abc import Iterable

from pertexp.metrics.cell_eval import CELL_EVAL
from pertexp.metrics.core import CORE
from pertexp.metrics.gears import GEARS
from pertexp.metrics.impact import IMPACT
from pertexp.metrics.metric import Metric
from pertexp.metrics.pairs import PAIRS
from pertexp.metrics.vcc2026 import VCC2026

METRICS: dict[str, Metric] = {**CORE, **CELL_EVAL, **VCC2026, **GEARS, **IMPACT, **PAIRS}
OWN = frozenset(METRICS)


def register(metrics: Iterable[Metric]) -> None:
    """Add metrics of another package, so that their numbers can be read; one that is there already stays.

    Raises
    ------
    ValueError
        Where a name lacks its family, or there is a metric of that name with another meaning.
    """
    for metric in metrics:
        known = METRICS.get(metric.name)
        if known is None and "/" not in metric.name:
            raise ValueError(f"the metric {metric.name} lacks its family: name it <family>/{metric.name}.")
        if known is not None and known.meaning != metric.meaning:
            raise ValueError(
                f"there is a metric {metric.name} already, and another meaning is given to it (best, worst, space or "
                "what zero is): give one of the two another name."
            )
        METRICS.setdefault(metric.name, metric)
