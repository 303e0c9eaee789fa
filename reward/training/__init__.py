"""From human scores to a trained model: features, fit loop, recipe, controls."""
