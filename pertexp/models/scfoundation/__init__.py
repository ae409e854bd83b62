"""scFoundation (Hao et al. 2024): gene embeddings that depend on the cell, from a user's own checkpoint."""
