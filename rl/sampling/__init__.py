"""The arithmetic of one denoising step: pure functions of tensors."""
