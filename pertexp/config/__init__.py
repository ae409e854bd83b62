"""From the command line to objects: errors, checks, values held against types, instantiation, search path."""
