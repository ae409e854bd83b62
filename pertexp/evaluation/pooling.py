"""Runs on several folds as one: each kind of experiment pools what its own runs left in their folders."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from pertexp.errors import DataError

if TYPE_CHECKING:
    from pertexp.evaluation.claims import Difference
    from pertexp.evaluation.screens.measuring import Measured


class Pooled(Protocol):
    """Runs of one model, setting and seed on several folds."""

    @property
    def roles(self) -> dict[str, str]:
        """Of every scored row: `model`, `baseline`, or what else its kind of experiment knows."""

    def means(self) -> pd.DataFrame:
        """`[model × metric]` over all that was tested, in the order of the runs' own tables."""

    def verdict(self, primary: str) -> list[str]:
        """Whether the model beats the best baseline on all that was tested."""

    def beside(self, name: str, others: Mapping[str, Any], primary: str) -> "dict[str, Difference]":
        """By their names what the model has over those of other settings, pooled alike: paired differences."""


def pool(folders: Sequence[Path]) -> Pooled:
    """The runs in these folders together.

    Raises
    ------
    DataError
        Where they are of several kinds, or what one left cannot be read.
    """
    kinds = sorted({str(stored_summary(folder).get("kind", "screen")) for folder in folders})
    if len(kinds) > 1:
        raise DataError(f"the runs to pool are of the kinds {' and '.join(kinds)}; expected one.")
    return KINDS[kinds[0]](folders)


def stored_summary(folder: Path) -> dict[str, Any]:
    """The metrics.json of a finished run."""
    return dict(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))


def pooled_over_folds(folders: Iterable[Path]) -> "Measured":
    """The test units of runs on several folds together: each was scored against what its own fold trained."""
    from pertexp.evaluation.screens.measuring import pooled, stored

    return pooled([stored(folder) for folder in folders])


@dataclass(frozen=True, eq=False)
class PooledScreens:
    """Test units of screens, joined."""

    folders: Sequence[Path]

    @cached_property
    def _measured(self) -> "Measured":
        return pooled_over_folds(self.folders)

    @property
    def _model(self) -> str:
        return str(stored_summary(self.folders[0])["model"])

    @property
    def roles(self) -> dict[str, str]:
        """The model, and all else as baselines."""
        names = self._measured.per_unit["model"].unique()
        return {name: "model" if name == self._model else "baseline" for name in names}

    def means(self) -> pd.DataFrame:
        """Means over the units."""
        table = self._measured.per_unit
        means = table.pivot_table(index="model", columns="metric", values="value", aggfunc="mean", sort=False)
        return means.loc[list(dict.fromkeys(table["model"])), [m for m in dict.fromkeys(table["metric"]) if m in means]]

    def verdict(self, primary: str) -> list[str]:
        """Sentences over the units, the primary metric first."""
        from pertexp.evaluation.screens.scoring import Scores, verdict

        return verdict(Scores.of(self._measured, primary), self._model)

    def beside(self, name: str, others: Mapping[str, "PooledScreens"], primary: str) -> "dict[str, Difference]":
        """Differences unit by unit."""
        from pertexp.evaluation.screens.measuring import side_by_side
        from pertexp.evaluation.screens.scoring import Scores, over_units

        own = {name: self, **others}
        measured = side_by_side({name: (one._measured, one._model) for name, one in own.items()}, primary)
        scores = Scores.of(measured, primary)
        return {other: over_units(scores.difference(name, other, primary)) for other in others}


def _pairs(folders: Sequence[Path]) -> Pooled:
    from pertexp.evaluation.pairs.pooling import PooledPairs

    return PooledPairs.of(folders, [stored_summary(folder) for folder in folders])


KINDS: dict[str, Callable[[Sequence[Path]], Pooled]] = {"screen": PooledScreens, "pairs": _pairs}
