"""Train a model on human scores: features, fit loop, recipe, controls."""
