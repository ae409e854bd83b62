"""What the settings of a sweep are worth beside the one that they are held against, as an ablation beside the whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pertexp.errors import RequestError, nearest
from pertexp.evaluation.claims import Difference, spanned, standing
from pertexp.evaluation.pooling import pool
from pertexp.runs.jobs import SEED, Job, grouped, swept_keys

if TYPE_CHECKING:
    from rich.table import Table

Setting = tuple[str, ...]


def against_reference(jobs: Sequence[Job], reference: str, primary: str) -> pd.DataFrame:
    """What the reference has over each other setting, over the pooled test units of the first seed.

    Where more was swept than the key of the reference, settings that share the rest are held against one another.

    Parameters
    ----------
    reference
        `key=value`, a key that was swept and one of its values.

    Returns
    -------
    A row per setting that is held against another: the swept keys, `difference` (reference minus it), `low`, `high`
    (95 %, paired), `over` (what was resampled), `reference` (better, worse, ...) and `shown`.

    Raises
    ------
    RequestError
        Where the key was not swept, no finished job has that value, or settings were scored on different units.
    """
    key, _, value = reference.lstrip("+").partition("=")
    keys = swept_keys(jobs)
    if key not in keys:
        raise RequestError(f"{key} was not swept; {nearest(key, keys)}" if keys else f"{key} was not swept")
    place = keys.index(key)
    settings = {setting: _first_seed(members) for setting, members in grouped(jobs, keys).items()}
    wholes = [setting for setting in settings if _meant(setting[place]) == _meant(value)]
    if not wholes:
        known = {setting[place] for setting in settings}
        raise RequestError(
            f"no finished job has {reference}, which the others are held against; {nearest(value, known)}"
        )
    rows: list[dict[str, Any]] = []
    for whole in wholes:
        others = [other for other in settings if other != whole and _without(other, place) == _without(whole, place)]
        pools: dict[str, Any] = {_typed(keys, other): pool(settings[other]) for other in others}
        gaps = pool(settings[whole]).beside(_typed(keys, whole), pools, primary) if others else {}
        for other in others:
            rows.append(dict(zip(keys, other, strict=True)) | _row(gaps[_typed(keys, other)], primary))
    return pd.DataFrame(rows)


def render_against(table: pd.DataFrame, reference: str) -> "Table":
    """The table for the console."""
    from rich import box
    from rich.table import Table

    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = [name for name in table.columns if name not in ("difference", "low", "high", "over")]
    for name in shown:
        out.add_column({"shown": "difference", "reference": f"{reference} is"}.get(name, name), overflow="fold")
    for _, row in table.iterrows():
        out.add_row(*(str(row[name]) for name in shown))
    return out


def _meant(value: str) -> object:
    """What Hydra reads in a typed value: 1e-4 is 0.0001, which is what it writes down, and quotes are no part of it."""
    try:
        return OverridesParser.create().parse_override(f"value={value}").value()
    except HydraException:
        return value


def _row(gap: Difference, primary: str) -> dict[str, Any]:
    from pertexp.metrics.registry import METRICS

    said = standing(gap, higher_is_better=METRICS[primary].higher_is_better)
    numbers = {"difference": gap.mean, "low": gap.low, "high": gap.high, "over": gap.units}
    return {"shown": spanned(gap), "reference": said, **numbers}


def _typed(keys: Sequence[str], setting: Setting) -> str:
    return " ".join(f"{key}={value}" for key, value in zip(keys, setting, strict=True))


def _without(setting: Setting, place: int) -> Setting:
    return setting[:place] + setting[place + 1 :]


def _first_seed(jobs: Sequence[Job]) -> list[Path]:
    return [job.folder for job in next(iter(grouped(jobs, [SEED]).values()))]
