"""Evaluation of screens: profiles, cells, metrics, scores."""
