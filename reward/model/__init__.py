"""The HyperAlign model: geometry, adapter, modulation, losses, config, and how it is saved."""
