"""Work shared out: several processes, background threads."""
