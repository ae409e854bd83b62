"""Evaluation of pairs: scores on held-out pairs, baselines, masked inputs."""
