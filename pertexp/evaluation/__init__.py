"""Scores a prediction against a truth; knows nothing of how it was made."""
