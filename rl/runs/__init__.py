"""The run folder: checkpoints, random states, signals, errors."""
