"""Reading, splits, designs, batches, simulators."""
