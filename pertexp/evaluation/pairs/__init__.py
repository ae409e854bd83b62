"""The honest score of a model of pairs."""
