"""One package per model family, and the baselines."""
