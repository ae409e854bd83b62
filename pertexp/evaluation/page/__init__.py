"""The page: what a run folder has to say, or many of them, as one self-contained HTML file."""
