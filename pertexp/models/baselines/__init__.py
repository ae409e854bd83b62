"""Baselines of screens and of pairs: simple predictions with which every model is compared."""
