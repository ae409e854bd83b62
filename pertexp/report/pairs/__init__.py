"""Console and pages of pairs."""
