"""Diffusers pipelines as policies: one file per model family."""
