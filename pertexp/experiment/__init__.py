"""What the commands do: prepare, train and score a run, score a checkpoint or a file, gather the jobs of a sweep."""
