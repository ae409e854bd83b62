"""NB-GLM: a low-rank negative binomial generalised linear model of perturbation screens."""

from pertexp.models.nbglm.module import NBGLM

__all__ = ["NBGLM"]
