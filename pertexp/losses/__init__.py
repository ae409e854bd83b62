"""Task losses: pure functions from a batch to numbers."""
