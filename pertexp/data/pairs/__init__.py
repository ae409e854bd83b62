"""Pairs: an enhancer and a promoter, seen to interact or not in a cell line."""
