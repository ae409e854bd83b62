"""One room per model family, and the baselines."""
