"""What the console and the pages show of results: they are rendered here, and computed elsewhere."""
