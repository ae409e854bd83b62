"""Provenance of a run on its page: title, configuration, versions, how to repeat it."""

import json
from pathlib import Path

from pertexp.report.sections import Section, Values
from pertexp.runs.reading import RunFolder


def title_of(run: RunFolder) -> str:
    """Return the title of its page."""
    return f"{run.metrics.model} on {run.data_name}"


def meta_of(run: RunFolder) -> list[tuple[str, str]]:
    """Return folds, seed, date and split, by name; without what is not on record."""
    folds = ", ".join(map(str, run.folds))
    said = [("fold" if len(run.folds) < 2 else "folds", folds), ("seed", run.seed), ("date", run.date)]
    if run.data is not None and run.data.split_hash:
        said.append(("split", run.data.split_hash[:8]))
    return [(name, value) for name, value in said if value]


def data_notes(run: RunFolder) -> list[tuple[str, str]]:
    """Return what data.json notes of the data, by name."""
    return [(key.replace("_", " "), _plain(value)) for key, value in (run.data.notes if run.data else {}).items()]


def spoken(folder: Path) -> str:
    """Return a folder as one would type it: from `outputs` on, where it lies in one."""
    parts = folder.parts
    start = len(parts) - 1 - parts[::-1].index("outputs") if "outputs" in parts else None
    return "/".join(parts[start:]) if start is not None else folder.name


def _configuration(run: RunFolder) -> Values:
    return {"overrides": run.overrides, "config": run.config_text}


def _versions(run: RunFolder) -> Values | None:
    known = run.environment
    if known is None:
        return None
    revision = known.git_revision or "not in a git checkout"
    said = [("git revision", revision), ("Python", known.python), ("platform", known.platform)]
    if known.threads:
        said.append(("threads", str(known.threads)))
    facts = [("command", known.command), *said] if known.command else said
    return {"facts": facts, "packages": known.packages}


def _repeating(run: RunFolder) -> Values:
    repeatable = {"model", "data"} <= set(run.config or {})
    return {"folder": spoken(run.folder), "repeatable": repeatable, "configured": bool(run.config_text)}


def _plain(value: object) -> str:
    if value is None or value in ([], {}, ""):
        return "none"
    if isinstance(value, list):
        return ", ".join(_plain(part) for part in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


PROVENANCE: tuple[Section[RunFolder], ...] = (
    Section("config", "Configuration", _configuration, "configuration.html.j2"),
    Section(
        "environment", "Versions", _versions, "versions.html.j2", link="",
        absent="environment.json is not in the folder: versions are not on record.",
    ),
    Section("repeat", "Repeat it", _repeating, "repeating.html.j2", link="repeat"),
)  # fmt: skip
