"""The tasks, screens and pairs: all that depends on the task, in one object each."""
