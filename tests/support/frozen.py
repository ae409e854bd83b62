"""Frozen values of other packages; the scripts that write them lie in benchmarks/peers/."""

import json

import numpy as np
from places import TESTS


def read_golden(name: str) -> dict[str, np.ndarray]:
    """Arrays by name: all numbers lie in one array of the file, with their types and shapes."""
    with np.load(TESTS / "golden" / f"{name}.npz", allow_pickle=False) as file:
        stored = {key.replace("|", "/"): file[key] for key in file.files}
    numbers, shapes = stored.pop("numbers"), json.loads(str(stored.pop("shapes")))
    start = 0
    for key, (kind, shape) in shapes.items():
        size = int(np.prod(shape))
        stored[key] = numbers[start : start + size].astype(kind).reshape(shape)
        start += size
    return stored
