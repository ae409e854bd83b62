"""Every metric by name, whatever its family."""

from pertexp.metrics.cell_eval import CELL_EVAL
from pertexp.metrics.core import CORE
from pertexp.metrics.gears import GEARS
from pertexp.metrics.impact import IMPACT
from pertexp.metrics.metric import Metric
from pertexp.metrics.pairs import PAIRS
from pertexp.metrics.vcc2026 import VCC2026

METRICS: dict[str, Metric] = {**CORE, **CELL_EVAL, **VCC2026, **GEARS, **IMPACT, **PAIRS}
