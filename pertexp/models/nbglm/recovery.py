"""Recovery of a planted truth by the NB-GLM."""

import numpy as np
import torch

from pertexp.data.screens.design import Design
from pertexp.models.nbglm.network import NBGLMNetwork


def planted_recovery(network: NBGLMNetwork, design: Design) -> dict[str, float]:
    """Cosines of kernel and held-out effects with the planted ones, and the median ratio of dispersions.

    The kernel is compared where the model was given the planted embeddings; effects are log fold changes, without
    the mean effect of training (which b can learn with no use of the embeddings).
    """
    truth, units = design.screen.truth, design.units("test")
    found: dict[str, float] = {}
    kernel = (network.log_alpha.exp() * network.kernel).cpu().numpy()
    if kernel.shape == truth.kernel.shape:
        found["cosine of kernels"] = cosine(kernel, truth.kernel)
    effect = network.effect(torch.from_numpy(units.perturbation), torch.from_numpy(units.context)).cpu().numpy()
    mean = truth.effect[design.training.units.perturbation].mean(axis=0)
    found["cosine of held-out effects"] = cosine(effect - mean, truth.effect[units.perturbation] - mean)
    found["median ratio of dispersions"] = float(np.median(network.theta.cpu().numpy() / truth.theta))
    return found


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of two arrays taken as vectors; 0 where one of them is zero."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.sum(a * b)) / length if length else 0.0
