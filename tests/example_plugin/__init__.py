"""A package of someone else's, as small as can be: a model, a loss, a split, data, a baseline, metrics, and choices.

CONTRIBUTING.md walks through its files.
"""
