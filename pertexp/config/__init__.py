"""From the command line to objects: errors, checks, values checked against types, instantiation, search path."""
