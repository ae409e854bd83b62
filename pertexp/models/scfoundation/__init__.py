"""scFoundation (Hao et al. 2024): genes in the context of a cell, by a user's own checkpoint."""
