"""Protocols that test a score on prompts it never saw, and their report."""
