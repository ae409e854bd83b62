"""The tasks, screens and pairs: what each brings, in one place."""
