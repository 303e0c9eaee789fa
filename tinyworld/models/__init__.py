"""The tiny models of the world: how each is built and trained."""
