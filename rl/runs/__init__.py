"""The run folder: checkpoints, metrics, pictures, random states, signals, errors."""
