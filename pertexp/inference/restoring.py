"""The way back from a checkpoint, which is foreign input: nothing is built that this installation does not build."""

import functools
import inspect
import pydoc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from pertexp.errors import DataError, RequestError
from pertexp.inference.trained import Restored, Trained, TrainedPairs
from pertexp.models.vocabulary import Vocabulary
from pertexp.training.checkpoints import checkpoint_of, read_checkpoint
from pertexp.typed import typed

Reader = Callable[[dict[str, Any], Path, Path], Restored]


def restore(place: str, conf: Path, readers: Mapping[str, Reader]) -> Restored:
    """Restore the trained model of a run folder or checkpoint file, by the reader of the task that the file names.

    Only what the configuration tree `conf` builds under model= is looked up by the name in the file.

    Raises
    ------
    DataError
        Where there is no checkpoint, it is unreadable, or was written by no model of this installation.
    """
    path = checkpoint_of(place)
    stored = read_checkpoint(path)
    held = stored.get("restore")
    read = readers.get(str(held.get("task"))) if isinstance(held, dict) else None
    if read is None or "schema" not in stored:
        raise DataError(f"{path} holds weights but not what they mean: name a checkpoint that pertexp.run wrote.")
    try:
        return read(stored, path, conf)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as fault:  # whatever a changed file brings
        raise _misfit(path, fault) from fault


def restore_screens(stored: dict[str, Any], path: Path, conf: Path) -> Trained:
    """Restore a model of screens from the contents of its checkpoint."""
    kept, options = stored["restore"], _options(stored["restore"]["model"])
    build = _builder(kept["model"], path, conf)
    return Trained(
        model=build(stored["state_dict"], Vocabulary.read(kept["vocabulary"]), **options),
        name=str(options.get("name", "model")),
        path=path,
        schema=stored["schema"],
        data=kept["data"],
        control=np.asarray(kept["control"], dtype=np.float64),
        size_factors=np.asarray(kept["size_factors"], dtype=np.float64),
        median_depth=kept["median_depth"],
    )


def restore_pairs(stored: dict[str, Any], path: Path, conf: Path) -> TrainedPairs:
    """Restore a model of pairs from the contents of its checkpoint."""
    kept, options = stored["restore"], _options(stored["restore"]["model"])
    build = _builder(kept["model"], path, conf)
    nested = {key: value for key, value in options.items() if isinstance(value, dict) and "_target_" in value}
    options |= {group: _choice(group, node, path, conf) for group, node in nested.items()}
    model = _built(build, path, stored["state_dict"], **options)
    name, lines = str(options.get("name", "model")), tuple(map(str, kept["lines"]))
    return TrainedPairs(model, name, path, stored["schema"], kept["data"], lines)


def _options(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if not key.startswith("_")}


def _builder(node: Mapping[str, Any], path: Path, conf: Path) -> Any:
    """The `from_checkpoint` of a model that the configuration tree builds."""
    target = str(node.get("_target_"))
    if target not in _targets((conf / "model").glob("*.yaml")):
        raise DataError(f"{path} was written by {target}, which no model= of this installation builds.")
    owner: Any = pydoc.locate(target.rpartition(".")[0])
    if not hasattr(owner, "from_checkpoint"):
        raise DataError(f"{path} was written by {target}, which cannot be used from a checkpoint alone.")
    return owner.from_checkpoint


def _choice(group: str, node: Mapping[str, Any], path: Path, conf: Path) -> Any:
    """The choice of a group below model= that a file of the group describes, its options held against their types."""
    target = str(node["_target_"])
    files = [file for file in (conf / "model").glob("*/*.yaml") if file.parent.name == group]
    if target not in _targets(files):
        raise DataError(f"{path} names {target} under {group}, which no model/{group}= of this installation builds.")
    kind: Any = pydoc.locate(target)

    @functools.wraps(kind)
    def build(**options: Any) -> Any:
        return typed(kind, options, f"model.{group}")

    return _built(build, path, **_options(node))


def _targets(files: Any) -> set[str]:
    configs: list[Any] = [OmegaConf.load(file) for file in files]
    return {str(config.get("model", config).get("_target_", "")) for config in configs}


def _built(build: Callable[..., Any], path: Path, *parts: Any, **options: Any) -> Any:
    """What `build` makes of stored options; DataError where they do not fit it."""
    try:
        inspect.signature(build).bind(*parts, **options)
    except TypeError as fault:
        raise _misfit(path, fault) from fault
    try:
        return build(*parts, **options)
    except RequestError as fault:
        raise _misfit(path, fault) from fault


def _misfit(path: Path, fault: Exception) -> DataError:
    said = str(fault).strip().splitlines()[0]
    return DataError(f"{path} does not fit the model that it names ({said}): the file was changed.")
