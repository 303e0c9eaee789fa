"""Watch a run: evaluation, side metrics, the reward-hacking alarm, early stopping."""
