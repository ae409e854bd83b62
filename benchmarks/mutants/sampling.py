"""A seeded sample of mutants, stratified by module."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.mutants.places import Mutant, Place, places

OF_DATA = ("batches", "coordinates", "design", "labels", "matched_controls", "profiles", "pseudobulk", "sampler",
           "scale", "simulator", "split_table", "splits", "tokens")  # fmt: skip
PURE = (
    "pertexp/nn",
    "pertexp/losses",
    "pertexp/metrics",
    "pertexp/evaluation/bootstrap.py",
    "pertexp/evaluation/comparison.py",
    *(f"pertexp/data/*/{name}.py" for name in OF_DATA),
)
WIRING = (
    "pertexp/models/*/module.py",
    "pertexp/models/*/network.py",
    "pertexp/models/*/energy.py",
    "pertexp/models/*/terms.py",
    "pertexp/models/*/initial.py",
    "pertexp/training",
    "pertexp/evaluation/*/evaluation.py",
    "pertexp/data/*/datamodule.py",
    "pertexp/data/screens/batch_layouts.py",
)
SETS = {"pure": PURE, "wiring": WIRING}


def modules(root: Path, paths: Sequence[str]) -> list[str]:
    """List the modules that sets, folders, files and patterns name.

    Raises
    ------
    ValueError
        Where one of them names nothing.
    """
    found: set[str] = set()
    for path in paths:
        files = [file for pattern in SETS.get(path, (path,)) for file in _files(root, pattern)]
        if not files:
            raise ValueError(f"{path} is no module, no folder or pattern with modules, and no set ({', '.join(SETS)})")
        found |= {str(file.relative_to(root)) for file in files}
    return sorted(found)


def _files(root: Path, pattern: str) -> list[Path]:
    return [
        file for match in root.glob(pattern) for file in (match.rglob("*.py") if match.is_dir() else [match])
    ]  # fmt: skip


def sample(root: Path, paths: Sequence[str], n: int, seed: int) -> list[Mutant]:
    """Draw `n` mutants: places of each module in proportion to how many it has, then one way of changing each."""
    generator = random.Random(seed)
    found = {path: places(root, path) for path in modules(root, paths)}
    found = {path: there for path, there in found.items() if there}
    drawn: list[Mutant] = []
    for path, share in shares({path: len(there) for path, there in found.items()}, n).items():
        order = generator.sample(found[path], len(found[path]))
        source = (root / path).read_text()
        mutants = (mutant for place in order if (mutant := _mutant(place, source, generator)) is not None)
        drawn += [mutant for mutant, _ in zip(mutants, range(share), strict=False)]
    return drawn


def _mutant(place: Place, source: str, generator: random.Random) -> Mutant | None:
    """Change a place in one of its ways; None where each leaves the program as it is or breaks its syntax."""
    ways = generator.sample(place.ways, len(place.ways))
    return next((mutant for way in ways if (mutant := Mutant(place, way, source)).differs), None)


def shares(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """Divide `n` in proportion to the sizes: each gets at least 1, while `n` suffices for it, and at most its size."""
    total = sum(sizes.values())
    wanted = {name: n * size / total for name, size in sizes.items()}
    given = {name: min(size, max(1, int(wanted[name]))) for name, size in sizes.items()}
    while sum(given.values()) > n:
        most = max(
            (name for name in given if given[name]), key=lambda name: (given[name] > 1, given[name] - wanted[name])
        )
        given[most] -= 1
    while sum(given.values()) < min(n, total):
        rest = [name for name in given if given[name] < sizes[name]]
        given[max(rest, key=lambda name: wanted[name] - given[name])] += 1
    return given
