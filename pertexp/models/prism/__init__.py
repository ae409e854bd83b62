"""PRISM: interaction energy of an enhancer and a promoter, and the resistance of their cell line to it."""

from pertexp.models.prism.module import PRISM

__all__ = ["PRISM"]
