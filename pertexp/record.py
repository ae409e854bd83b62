"""What a run leaves behind so that it can be repeated and trusted."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from pertexp import __version__
from pertexp.errors import DataError, RequestError

if TYPE_CHECKING:
    from pertexp.data.screens.design import Design

PACKAGES = ("torch", "lightning", "hydra-core", "omegaconf", "numpy", "scipy", "pandas", "anndata", "scanpy")
CONFIG = Path("config") / "config.yaml"


def saved_config(folder: str) -> DictConfig:
    """The composed configuration of an earlier run; DataError where the folder holds none."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise DataError(f"{folder} is not a run folder (no {CONFIG}): type repeat=outputs/runs/<date>/<run>")
    try:
        config = OmegaConf.load(path)
    except yaml.YAMLError as fault:
        raise DataError(
            f"{path} is not valid YAML ({str(fault).splitlines()[0]}): the file was changed or cut off."
        ) from fault
    if not isinstance(config, DictConfig) or not {"model", "data"} <= set(config):
        raise DataError(f"{path} holds no configuration of a run: the file was changed or cut off.")
    return config


def save_config(config: DictConfig, folder: Path) -> None:
    """Put a configuration where `saved_config` finds it."""
    with whole(folder / CONFIG) as partial:
        partial.write_text(OmegaConf.to_yaml(config), encoding="utf-8")


def environment() -> dict[str, Any]:
    """Command, git revision, and versions of everything that computes."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {"pertexp": __version__, **{name: _version(name) for name in PACKAGES}},
    }


def schema(design: "Design") -> dict[str, Any]:
    """What a checkpoint needs to be used elsewhere: plain values only."""
    screen = design.screen
    return {
        "genes": screen.genes.tolist(),
        "perturbations": list(screen.perturbations),
        "contexts": list(screen.contexts),
        "scale": screen.scale,
        "profile_scale": design.profile_scale,
        "split_hash": design.split.hash,
        "fold": design.split.fold,
        "versions": {"pertexp": __version__, "torch": _version("torch"), "lightning": _version("lightning")},
    }


def write_record(folder: Path, design: "Design") -> None:
    """Write split.parquet, data.json and environment.json."""
    design.split.write(folder / "split.parquet")
    roles = design.split.roles()["role"].value_counts().to_dict()
    cells = {role: int((design.role == role).sum()) for role in sorted(set(design.role))}
    write_json(
        folder / "data.json",
        {
            "cells": design.screen.n_cells,
            "genes": design.screen.n_genes,
            "split_hash": design.split.hash,
            "fold": design.split.fold,
            "units_by_role": {str(role): int(count) for role, count in roles.items()},
            "cells_by_role": cells,
            "notes": design.notes,
        },
    )
    write_json(folder / "environment.json", environment())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to: it takes the place of `path` in the end, and goes if anything fails."""
    partial = path.with_name(f".{path.name}.partial")
    if path.is_dir():
        raise RequestError(f"{path} is a folder: name a file to write to.")
    try:
        partial.touch()
    except OSError as fault:
        raise RequestError(f"{path} cannot be written ({fault.strerror}): name another place.") from fault
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_revision() -> str | None:
    """Revision of the checkout that the package lies in, `+changes` where it is not clean; None outside a checkout."""
    home = Path(__file__).resolve().parents[1]
    if not (home / ".git").exists():
        return None
    try:
        revision = _git(home, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(home, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(home: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(home), *words], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607
