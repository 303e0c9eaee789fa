"""The LoRA: add it to a denoiser, save and load it, average its weights, export it for other tools."""
