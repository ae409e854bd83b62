"""Record of a run: configuration, split, data and environment, from which it can be repeated."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import yaml
from omegaconf import DictConfig, OmegaConf

from pertexp import __version__, threads
from pertexp.config.errors import DataError, RequestError
from pertexp.runs.documents import dumped
from pertexp.runs.schema import DATA, ENVIRONMENT, DataRecord, Environment

PACKAGES = ("torch", "lightning", "hydra-core", "omegaconf", "numpy", "scipy", "pandas", "anndata", "scanpy")
CONFIG = Path("config") / "config.yaml"


class RecordedSplit(Protocol):
    """A split that can be written to a file."""

    @property
    def fold(self) -> int:
        """The fold in use."""

    def write(self, path: Path) -> None:
        """Write the table of roles."""


class RecordedDesign(Protocol):
    """A design of any task, as the record of a run needs it."""

    @property
    def split(self) -> RecordedSplit:
        """Who is trained on."""

    def schema(self) -> dict[str, Any]:
        """Return what a model that was trained here needs to be used elsewhere: plain values."""

    def record(self) -> DataRecord:
        """Return what the data are."""


def saved_config(folder: str) -> DictConfig:
    """Return the composed configuration of an earlier run; DataError where the folder holds none."""
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


def saved_threads(folder: str) -> object:
    """Return the `threads` that environment.json of an earlier run names; None where there is none."""
    path = Path(folder) / ENVIRONMENT
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise DataError(f"{path} is not valid JSON: the file was changed or cut off.") from fault
    return said.get("threads") if isinstance(said, dict) else None


def save_config(config: DictConfig, folder: Path) -> None:
    """Put a configuration where `saved_config` finds it."""
    with whole(folder / CONFIG) as partial:
        partial.write_text(OmegaConf.to_yaml(config), encoding="utf-8")


def environment() -> Environment:
    """Command, git revision, threads, and versions of everything that computes."""
    return Environment(
        command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        git_revision=_git_revision(),
        python=platform.python_version(),
        platform=platform.platform(),
        threads=threads.count(),
        packages={"pertexp": __version__, **{name: _version(name) for name in PACKAGES}},
    )


def schema(design: RecordedDesign) -> dict[str, Any]:
    """Return what a checkpoint needs to be used elsewhere: plain values only."""
    versions = {"pertexp": __version__, "torch": _version("torch"), "lightning": _version("lightning")}
    return {**design.schema(), "versions": versions}


def write_record(folder: Path, design: RecordedDesign) -> None:
    """Write split.parquet, data.json and environment.json."""
    design.split.write(folder / "split.parquet")
    write_text(folder / DATA, dumped(design.record()))
    write_text(folder / ENVIRONMENT, dumped(environment()))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name next to `path`: it takes the place of `path` in the end, and goes if anything fails."""
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
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return None
    try:
        revision = _git(home, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(home, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(home: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(home), *words], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607
