"""Results of many runs: settings, pooled folds, averaged seeds, comparisons; computed once."""
