"""The formulas of one denoising step, as pure functions of tensors."""
