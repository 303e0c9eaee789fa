"""How well scores agree with human ones: correlations, intervals, the ridge baseline."""
