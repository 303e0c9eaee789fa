"""Rewards by name, and rewards that need no training."""
