"""Experiments in perturbation biology: train a model from one command line and score it on held-out data."""

__version__ = "0.1.0"
