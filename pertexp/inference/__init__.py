"""Trained models restored from their checkpoints, and predictions with them."""
