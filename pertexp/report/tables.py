"""Tables of scores on a page: rows are models or settings, columns are metrics, one table a family."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pertexp.evaluation.comparison import ties
from pertexp.evaluation.roles import RowRoles
from pertexp.metrics.metric import Level
from pertexp.metrics.registry import METRICS
from pertexp.runs.schema import CalibrationRow, Role, ScoreRow

FIRST_FAMILY = "core"
COMPETITORS = ("model", "baseline")
MINUS = "−"
ARROWS = "↑ higher is better, ↓ lower is better; click a name to sort."


@dataclass(frozen=True)
class Value:
    """One cell: a mean over `n` units, its 95 % interval, where it lies between train mean (0) and replicate (1)."""

    mean: float
    low: float = math.nan
    high: float = math.nan
    calibrated: float = math.nan
    n: int = 1
    sd: float = math.nan
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table: a model, a baseline, or a setting, with a description beneath its name.

    Beside them are rows that no verdict counts: the replicate, a model that was `masked`, a baseline set `aside`.
    """

    label: str
    kind: str
    values: dict[str, Value]
    note: str = ""
    name: str = ""
    words: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """What a figure calls it: the words that set a setting apart, else its name or its label."""
        return " ".join(self.words) or self.name or self.label

    @property
    def competes(self) -> bool:
        """Whether it can be the best of a column."""
        return self.kind in COMPETITORS


@dataclass(frozen=True)
class Column:
    """A metric with its direction, calibration and format."""

    name: str
    level: Level
    higher_is_better: bool
    decimals: int
    missing: str = ""
    trust: CalibrationRow | None = None

    @property
    def family(self) -> str:
        """Family that the metric belongs to."""
        return family_of(self.name)

    @property
    def short(self) -> str:
        """Name without its family."""
        return self.name.rpartition("/")[2]

    @property
    def arrow(self) -> str:
        """Direction of the better value."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def zero(self) -> str:
        """The prediction whose calibrated value is 0, in words."""
        negative = self.trust.negative if self.trust is not None else ""
        return negative.replace("_", " ") or "knows nothing"

    @property
    def trusted(self) -> bool:
        """Whether it passes its calibration on this data."""
        return self.trust is None or self.trust.trusted


@dataclass(frozen=True)
class FamilyTable:
    """The metrics of one family, for all rows."""

    family: str
    columns: list[Column]
    rows: list[Row]


@dataclass(frozen=True)
class GroupTable:
    """One metric by group, as of units that have something in common: rows are models, columns are groups."""

    column: Column
    groups: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Tile:
    """A number at the head of a page: whose, what it is, the number, and what stands beneath."""

    kind: str
    what: str
    value: str
    beneath: str


def family_of(metric: str) -> str:
    """Family that a metric belongs to, by its name."""
    return metric.rpartition("/")[0] or FIRST_FAMILY


def rows_of(aggregate: Iterable[ScoreRow], roles: RowRoles) -> list[Row]:
    """Return one row per scored name, in the order of the file."""
    values: dict[str, dict[str, Value]] = {}
    for entry in aggregate:
        values.setdefault(entry.model, {})[entry.metric] = value_of(entry)
    return [row_of(name, roles, own) for name, own in values.items()]


def row_of(name: str, roles: RowRoles, values: dict[str, Value]) -> Row:
    """Return a row by what it is; a masked one is named by what is left of the input."""
    note = f"not counted: {roles.not_counted[name]}" if name in roles.not_counted else ""
    short = roles.short(name) if name in roles.masked else ""
    return Row(name, style_of(roles.by_name.get(name, "baseline")), values, name=short, note=note)


def style_of(role: Role) -> str:
    """Return the style of a row, as style.css has it."""
    return "aside" if role == "not counted" else role


def value_of(entry: ScoreRow) -> Value:
    """Return a cell from a row of metrics.json."""
    return Value(entry.mean, entry.low, entry.high, entry.calibrated, entry.n)


def columns_of(aggregate: Sequence[ScoreRow], trust: Iterable[CalibrationRow]) -> list[Column]:
    """Return the metrics of a file, in its order; one that this version does not know is a matter of detail."""
    known = {entry.metric: entry for entry in trust}
    first = {entry.metric: entry for entry in reversed(aggregate)}
    columns = []
    for name in dict.fromkeys(entry.metric for entry in aggregate):
        metric = METRICS.get(name)
        level: Level = "detail" if metric is None else metric.level
        upward = _higher_is_better(first[name]) if metric is None else metric.higher_is_better
        decimals = _decimals(entry.mean for entry in aggregate if entry.metric == name)
        missing = "" if metric is None else metric.missing
        columns.append(Column(name, level, upward, decimals, missing, known.get(name)))
    return columns


def family_tables(columns: Sequence[Column], rows: Sequence[Row]) -> list[FamilyTable]:
    """Lay out a table a family, core first, the best of each column marked, without metrics that apply to no unit."""
    marked = _marked(columns, rows)
    applies = [column for column in columns if any(_defined(row, column.name) for row in rows)]
    names = sorted(dict.fromkeys(column.family for column in applies), key=lambda name: name != FIRST_FAMILY)
    return [FamilyTable(name, [column for column in applies if column.family == name], marked) for name in names]


def best_row(rows: Iterable[Row], column: Column) -> Row | None:
    """Return the row of best mean on a metric, the first of those that tie, as a verdict has it."""
    defined = [row for row in rows if _defined(row, column.name)]
    sign = 1.0 if column.higher_is_better else -1.0
    best = max((sign * row.values[column.name].mean for row in defined), default=math.nan)
    return next((row for row in defined if ties(sign * row.values[column.name].mean, best)), None)


def left_out(aggregate: Sequence[ScoreRow], columns: Sequence[Column], model: str, what: str = "unit") -> list[str]:
    """Name the metrics that some or all units cannot have, and why."""
    why = {column.name: column.missing or "reason unknown to this version" for column in columns}
    by_reason: dict[tuple[str, int, int], list[str]] = {}
    for entry in aggregate:
        if entry.model == model and entry.n_left_out:
            by_reason.setdefault((why[entry.metric], entry.n_left_out, entry.n), []).append(entry.metric)
    return [
        f"Not applicable {f'for any {what}' if n == 0 else f'for {count} of {count + n} {what}s'} ({reason}): "
        + ", ".join(names)
        for (reason, count, n), names in by_reason.items()
    ]


def tile(row: Row | None, what: str, column: Column) -> list[Tile]:
    """Return a row's value on a metric at the head of a page; nothing where there is none."""
    if row is None or column.name not in row.values:
        return []
    value = row.values[column.name]
    beneath = interval(value.low, value.high, column.decimals) or "no interval"
    return [Tile(row.kind, what, number(value.mean, column.decimals), beneath)]


def number(value: float | None, decimals: int = 3, sign: str = "") -> str:
    """Return a number as text with a proper minus; `n/a` where there is none."""
    if value is None or not math.isfinite(value):
        return "n/a"
    large = abs(value) >= 1e5
    text = f"{value:{sign}.3g}" if large else f"{value:{sign}.{decimals}f}"
    zero = text.strip("+-0.") == ""
    return (text.lstrip("-") if zero else text).replace("-", MINUS)


def signed(value: float | None) -> str:
    """Return a difference, with its sign."""
    return number(value, 3, "+")


def significant(value: float | None) -> str:
    """Three digits of a number of any size; `n/a` where there is none."""
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.3g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """Return `[low, high]`, empty where there is none."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def _marked(columns: Sequence[Column], rows: Sequence[Row]) -> list[Row]:
    candidates = [row for row in rows if row.competes]
    best = {column.name: best_row(candidates, column) for column in columns}
    return [replace(row, values=_with_best(row, best)) if row.competes else row for row in rows]


def _with_best(row: Row, best: Mapping[str, Row | None]) -> dict[str, Value]:
    values = {}
    for name, value in row.values.items():
        winner = best.get(name)
        wins = winner is not None and ties(value.mean, winner.values[name].mean)
        values[name] = replace(value, best=wins)
    return values


def _defined(row: Row, metric: str) -> bool:
    return metric in row.values and row.values[metric].n > 0 and math.isfinite(row.values[metric].mean)


def _higher_is_better(entry: ScoreRow) -> bool:
    return entry.best > entry.worst


def _decimals(means: Iterable[float]) -> int:
    """Three digits of the largest mean, between 0 and 6 after the point; three after it for numbers around one."""
    largest = max((abs(mean) for mean in means if math.isfinite(mean)), default=0.0)
    if largest == 0 or 0.1 <= largest < 10:
        return 3
    return min(6, max(0, 2 - math.floor(math.log10(largest))))
