"""What every setting of a sweep is worth beside the one it is held against, as an ablation beside the whole."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pertexp.errors import RequestError, nearest
from pertexp.evaluation.jobs import SEED, Job, grouped, swept_keys
from pertexp.evaluation.pooling import pool


def against_reference(jobs: Sequence[Job], reference: str, primary: str) -> list[str]:
    """A sentence per setting: whether the reference beats it, over the pooled test units of the first seed.

    Where more was swept than the key of the reference, those that share the rest are held against one another.

    Parameters
    ----------
    reference
        `key=value`, a key that was swept and one of its values; nothing is said where the key was not swept.

    Raises
    ------
    RequestError
        Where no finished job has that value.
    """
    key, _, value = reference.lstrip("+").partition("=")
    keys = swept_keys(jobs)
    if key not in keys:
        return []
    settings = {setting: _first_seed(members) for setting, members in grouped(jobs, keys).items()}
    place = keys.index(key)
    whole = [setting for setting in settings if _meant(setting[place]) == _meant(value)]
    if not whole:
        known = {setting[place] for setting in settings}
        raise RequestError(
            f"no finished job has {reference}, which the others are held against; {nearest(value, known)}"
        )
    said = []
    for own in whole:
        rest = own[:place] + own[place + 1 :]
        others = [s for s in settings if s != own and s[:place] + s[place + 1 :] == rest]
        pools: Mapping[str, Any] = {_named(keys, other): pool(settings[other]) for other in others}
        if pools:
            said += pool(settings[own]).beside(_named(keys, own), pools, primary)
    return said


def _meant(value: str) -> object:
    """What Hydra reads in a typed value: 1e-4 is 0.0001, which is what it writes down, and quotes are no part of it."""
    try:
        return OverridesParser.create().parse_override(f"value={value}").value()
    except HydraException:
        return value


def _first_seed(jobs: Sequence[Job]) -> list[Any]:
    return [job.folder for job in next(iter(grouped(jobs, [SEED]).values()))]


def _named(keys: Sequence[str], setting: Sequence[str]) -> str:
    return " ".join(f"{key}={value}" for key, value in zip(keys, setting, strict=True))
