"""Diffusers pipelines as policies: one file a model family."""
