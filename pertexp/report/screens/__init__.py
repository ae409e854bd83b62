"""Console and pages of screens."""
