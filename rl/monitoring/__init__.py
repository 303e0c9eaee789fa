"""Is the run sound? Evaluation, side metrics, the alarm against reward hacking, early stopping."""
