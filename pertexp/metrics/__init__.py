"""Metrics: pure functions from an evaluation frame to one number per perturbation."""
