"""What every page says of where a run comes from: title, versions, configuration, how to repeat it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pertexp.runs.reading import RunFolder


@dataclass(frozen=True)
class Provenance:
    """Title and facts, as plain values; None for overrides that are not on record."""

    title: str
    meta: list[tuple[str, str]]
    data: list[tuple[str, str]]
    config: str
    overrides: list[str] | None
    environment: list[tuple[str, str]]
    packages: dict[str, str]
    folder: str
    repeatable: bool


def provenance_of(run: RunFolder) -> Provenance:
    """What the folder of a run says of it."""
    return Provenance(
        title=f"{run.metrics.model} on {run.data_name}",
        meta=_meta(run),
        data=[(key.replace("_", " "), _plain(value)) for key, value in (run.data.notes if run.data else {}).items()],
        config=run.config_text,
        overrides=run.overrides,
        environment=_environment(run),
        packages=run.environment.packages if run.environment else {},
        folder=spoken(run.folder),
        repeatable={"model", "data"} <= set(run.config or {}),
    )


def spoken(folder: Path) -> str:
    """A folder as one would type it: from `outputs` on, where it lies in one."""
    parts = folder.parts
    start = len(parts) - 1 - parts[::-1].index("outputs") if "outputs" in parts else None
    return "/".join(parts[start:]) if start is not None else folder.name


def _meta(run: RunFolder) -> list[tuple[str, str]]:
    folds = ", ".join(map(str, run.folds))
    said = [("fold" if len(run.folds) < 2 else "folds", folds), ("seed", run.seed), ("date", run.date)]
    if run.data is not None and run.data.split_hash:
        said.append(("split", run.data.split_hash[:8]))
    return [(name, value) for name, value in said if value]


def _environment(run: RunFolder) -> list[tuple[str, str]]:
    known = run.environment
    if known is None:
        return []
    revision = known.git_revision or "not in a git checkout"
    said = [("git revision", revision), ("Python", known.python), ("platform", known.platform)]
    if known.threads:
        said.append(("threads", str(known.threads)))
    return [("command", known.command), *said] if known.command else said


def _plain(value: Any) -> str:
    if value is None or value in ([], {}, ""):
        return "none"
    if isinstance(value, list):
        return ", ".join(_plain(part) for part in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
