"""Work in parallel: several processes, background threads."""
