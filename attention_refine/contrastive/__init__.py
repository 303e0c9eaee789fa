"""Contrastive attention for a vision-language model."""
