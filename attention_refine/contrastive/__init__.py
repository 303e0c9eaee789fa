"""Contrastive attention around a vision-language model."""
