"""Predictions that know little: what a model has to beat, of screens and of pairs."""
