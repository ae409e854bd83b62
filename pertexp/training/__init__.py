"""What training needs beside a model: optimisers, callbacks, checkpoints."""
