"""The reward over HTTP: three contracts, one queue, limits for strangers."""
