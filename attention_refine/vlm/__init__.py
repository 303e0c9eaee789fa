"""How a vision-language model is loaded, looked into and asked."""
