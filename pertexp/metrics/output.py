"""Kinds of prediction that a model declares; a metric is computed from exactly one of them."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

OutputName = Literal["profile", "impact", "probability"]
ProfileScale = Literal["log1p_of_means", "mean_of_log1p", "mean_of_log2fc"]

# What the scales of profiles are in words, as prediction files and checkpoints have them.
SCALE_WORDS: dict[ProfileScale, str] = {
    "log1p_of_means": "log1p of counts at the median depth (sum of counts over sum of size factors)",
    "mean_of_log1p": "mean of log1p values",
    "mean_of_log2fc": "mean of log2 fold changes",
}
ANY_SCALE = frozenset(SCALE_WORDS)
OF_CELLS: frozenset[ProfileScale] = frozenset({"log1p_of_means", "mean_of_log1p"})
OF_COUNTS: frozenset[ProfileScale] = frozenset({"log1p_of_means"})

# What a metric compares, and which prediction that is computed from.
SPACES: dict[str, OutputName] = {
    "profile": "profile",
    "cells": "profile",
    "effect": "profile",
    "effect against control": "profile",
    "effect against training mean": "profile",
    "effect of group sums": "profile",
    "effect on logs": "profile",
    "mean of logs": "profile",
    "differential expression": "profile",
    "ranking of genes": "impact",
    "ranking": "probability",
    "calls": "probability",
    "probability": "probability",
}


@dataclass(frozen=True)
class Profile:
    """Mean expression `[U, G]` of perturbations in contexts.

    Attributes
    ----------
    scale
        Of the numbers; `as_data` where the model predicts on the scale of whatever data it is trained on.

    Raises
    ------
    ValueError
        On a scale that is none of these.
    """

    name: ClassVar[OutputName] = "profile"

    scale: ProfileScale | Literal["as_data"]

    def __post_init__(self) -> None:
        known = (*get_args(ProfileScale), "as_data")
        if self.scale not in known:
            raise ValueError(f"a profile cannot be on the scale {self.scale!r}: write one of {', '.join(known)}.")

    def on(self, data: ProfileScale) -> ProfileScale:
        """Return the scale of what is predicted after training on data whose profiles are on the scale `data`."""
        return data if self.scale == "as_data" else self.scale


@dataclass(frozen=True)
class Impact:
    """Non-negative scores `[U, G]`, larger where a perturbation moves a gene more."""

    name: ClassVar[OutputName] = "impact"


@dataclass(frozen=True)
class Probability:
    """Chance `[n]` that a pair interacts."""

    name: ClassVar[OutputName] = "probability"


Output = Profile | Impact | Probability
