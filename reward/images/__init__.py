"""Any picture -> tensors: decoding, checks, resizing, normalisation."""
