"""Any image input -> tensors: decoding, checks, resizing, normalisation."""
