"""Where a model meets the image, layer by layer: `python -m attention_refine.probes`."""
