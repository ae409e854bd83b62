"""Pickles that hold data alone: anything that would run code is refused."""

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from pertexp.config.errors import DataError


def read_plain_pickle(path: str | Path) -> Any:
    """Containers, text, numbers, NumPy arrays and tensors of a pickle.

    A pickle is a program, and loading one runs it. Here it may name the few builders of arrays and tensors and nothing
    else; the storage of a tensor is itself read by `torch.load(weights_only=True)`.

    Raises
    ------
    DataError
        Where the file is missing, truncated or no pickle, or names anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file {path}: name a pickle that cell-gears wrote.")
    try:
        with path.open("rb") as file:
            return _Plain(file).load()
    except _ForbiddenError as fault:
        raise DataError(f"{path} would run {fault} when loaded, so it is not: expected plain data alone.") from None
    except Exception as fault:  # a damaged pickle can raise nearly anything
        raise DataError(
            f"{path} cannot be read as a pickle ({type(fault).__name__}): truncated or of another format."
        ) from fault


class _ForbiddenError(Exception):
    """A name in a pickle that plain data do not need."""


def _storage(raw: bytes) -> Any:
    """Return the storage of a tensor, in place of `torch.storage._load_from_bytes`, which would unpickle anything."""
    with warnings.catch_warnings():  # of unusual pickles: what is no storage is refused
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(raw), weights_only=True)


def _builders() -> dict[tuple[str, str], Any]:
    import collections

    import numpy as np

    array = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    numpy = {
        (f"numpy.{place}.multiarray", name): builder
        for place in ("core", "_core")
        for name, builder in (("_reconstruct", array), ("scalar", scalar))
    }
    return {
        **numpy,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("builtins", "set"): set,
        ("builtins", "frozenset"): frozenset,
        ("torch", "device"): torch.device,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch.storage", "_load_from_bytes"): _storage,
    }


class _Plain(pickle.Unpickler):
    """An unpickler that accepts only the names that plain data need."""

    known = _builders()

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the builders; anything else is forbidden."""
        try:
            return self.known[module, name]
        except KeyError:
            raise _ForbiddenError(f"{module}.{name}") from None
