"""Rewards that others published, by name: one file each, with formula, source, licence and scale."""
