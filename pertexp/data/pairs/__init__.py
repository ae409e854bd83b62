"""Pairs: an enhancer and a promoter, observed to interact or not in a cell line."""
