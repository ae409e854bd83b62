"""Sequence backbones: from the tokens of a pair to its features."""
