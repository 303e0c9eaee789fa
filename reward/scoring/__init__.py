"""Score many pictures: what to score, in which order, where the scores go."""
