"""Protocols that test a model on prompts it was not trained on, and their report."""
