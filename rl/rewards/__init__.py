"""Load rewards by name; rewards that need no training."""
