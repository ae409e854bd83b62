"""Change the code in one spot at a time and see whether a test notices: `make mutants`."""
