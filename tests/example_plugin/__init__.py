"""A package of someone else's, as small as can be: a model, a loss, a split, data and a baseline, with their choices.

CONTRIBUTING.md walks through its files.
"""
