"""How rewards become a gradient: one file an update rule."""
