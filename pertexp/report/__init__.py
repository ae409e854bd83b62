"""Rendering of results on the console and as pages; nothing is computed here."""
