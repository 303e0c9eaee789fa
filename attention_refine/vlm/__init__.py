"""Load a vision-language model, find its decoder, and ask it questions."""
