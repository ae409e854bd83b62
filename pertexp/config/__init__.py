"""From the command line to objects: resolvers, checks."""
