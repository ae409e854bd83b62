"""Restore models from checkpoints, which are untrusted input: only what a file on the search path names is built."""

import functools
import inspect
import pydoc
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pertexp.config.errors import DataError, RequestError
from pertexp.config.search_path import SearchPath
from pertexp.config.validate import typed
from pertexp.inference.trained import Restored, Trained, TrainedPairs
from pertexp.models.protocols import PairSchema, ScreenSchema
from pertexp.models.vocabulary import Vocabulary
from pertexp.training.checkpoints import checkpoint_of, read_checkpoint

Reader = Callable[[dict[str, Any], Path, SearchPath], Restored]


def restore(place: str, search_path: SearchPath, readers: Mapping[str, Reader]) -> Restored:
    """Restore the trained model of a run folder or checkpoint file, by the reader of the task that the file names.

    Parameters
    ----------
    place
        The run folder, or the checkpoint file.
    search_path
        Where the model may come from: what no file of its trees names under `model` is not even imported.
    readers
        By the name of a task.

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
        return read(stored, path, search_path)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as fault:  # whatever a changed file brings
        raise _misfit(path, fault) from fault


def restore_screens(stored: dict[str, Any], path: Path, search_path: SearchPath) -> Trained:
    """Restore a model of screens from the contents of its checkpoint."""
    kept, schema = stored["restore"], stored["schema"]
    names = ScreenSchema(
        vocabulary=Vocabulary.read(kept["vocabulary"]),
        genes=tuple(map(str, schema["genes"])),
        scale=str(schema["scale"]),
        profile_scale=str(schema["profile_scale"]),
    )
    return Trained(
        model=_model(stored, names, path, search_path),
        name=_name(kept["model"]),
        path=path,
        schema=schema,
        data=kept["data"],
        control=np.asarray(kept["control"], dtype=np.float64),
        size_factors=np.asarray(kept["size_factors"], dtype=np.float64),
        median_depth=kept["median_depth"],
    )


def restore_pairs(stored: dict[str, Any], path: Path, search_path: SearchPath) -> TrainedPairs:
    """Restore a model of pairs from the contents of its checkpoint."""
    kept = stored["restore"]
    lines = tuple(map(str, kept["lines"]))
    model = _model(stored, PairSchema(lines), path, search_path)
    return TrainedPairs(model, _name(kept["model"]), path, stored["schema"], kept["data"], lines)


def _model(stored: dict[str, Any], schema: ScreenSchema | PairSchema, path: Path, search_path: SearchPath) -> Any:
    """Return the model with its weights; every choice of a group below `model` is built first."""
    node = stored["restore"]["model"]
    options, build = _options(node), _builder(node, path, search_path)
    nested = {key: value for key, value in options.items() if isinstance(value, dict) and "_target_" in value}
    options |= {group: _choice(group, choice, path, search_path) for group, choice in nested.items()}
    return _built(build, path, stored["state_dict"], schema, **options)


def _name(node: Mapping[str, Any]) -> str:
    return str(node.get("name", "model"))


def _options(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if not key.startswith("_")}


def _builder(node: Mapping[str, Any], path: Path, search_path: SearchPath) -> Callable[..., Any]:
    """Return the `from_checkpoint` of a model that a file on the search path names."""
    target = str(node.get("_target_"))
    if target not in search_path.model_targets():
        raise DataError(
            f"{path} was written by {target}, which no model= of this installation builds: {_advice('model')}"
        )
    owner: Any = pydoc.locate(target.rpartition(".")[0])
    if not hasattr(owner, "from_checkpoint"):
        raise DataError(f"{path} was written by {target}, which cannot be used from a checkpoint alone.")
    builder: Callable[..., Any] = owner.from_checkpoint
    return builder


def _choice(group: str, node: Mapping[str, Any], path: Path, search_path: SearchPath) -> Any:
    """Return the choice of a group below model= that a file of the group describes, with its options checked."""
    target = str(node["_target_"])
    if target not in search_path.model_targets(group):
        raise DataError(
            f"{path} names {target} under {group}, which no model/{group}= of this installation builds: "
            f"{_advice(f'model/{group}')}"
        )
    kind: Any = pydoc.locate(target)
    has_types = is_dataclass(kind)

    @functools.wraps(kind)
    def build(**options: Any) -> Any:
        return typed(kind, options, f"model.{group}") if has_types else kind(**options)

    return _built(build, path, **_options(node))


def _advice(group: str) -> str:
    return (
        f"where a package that you trust brings it, with a file {group}/*.yaml in its configuration, type "
        "'hydra.searchpath=[pkg://<package>.conf]'."
    )


def _built(build: Callable[..., Any], path: Path, *parts: Any, **options: Any) -> Any:
    """Return what `build` makes of stored options; DataError where they do not fit it."""
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
