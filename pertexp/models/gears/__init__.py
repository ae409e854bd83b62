"""GEARS: graph neural networks that predict single cells after perturbation (Roohani et al. 2023)."""

from pertexp.models.gears.module import GEARS

__all__ = ["GEARS"]
