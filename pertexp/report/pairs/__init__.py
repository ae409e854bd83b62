"""What the console and the pages show of pairs alone."""
