"""The tiny models: how each is built, trained and measured."""
