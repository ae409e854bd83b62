"""Measurements beside the package: see README.md."""
