"""What a model predicts, as it declares it; a metric is computed from one of these, and from no other."""

from typing import Literal

# profile: `[U, G]` mean expression of perturbations, on the scale of the data.
# impact: `[U, G]` non-negative score, larger where a perturbation moves a gene more.
# probability: `[n]` chance that a pair interacts.
Output = Literal["profile", "impact", "probability"]

# What a metric compares, and which prediction that is computed from.
SPACES: dict[str, Output] = {
    "profile": "profile",
    "cells": "profile",
    "effect": "profile",
    "effect against control": "profile",
    "effect against training mean": "profile",
    "effect of group sums": "profile",
    "effect on logs": "profile",
    "mean of logs": "profile",
    "differential expression": "profile",
    "ranking": "probability",
    "calls": "probability",
    "probability": "probability",
}
