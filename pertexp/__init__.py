"""Experiments in perturbation biology, from one line to an honest score."""

__version__ = "0.1.0"
