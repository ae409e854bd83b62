"""What training needs in addition to a model: optimisers, callbacks, checkpoints."""
