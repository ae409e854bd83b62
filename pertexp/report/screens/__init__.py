"""What the console and the pages show of screens alone."""
