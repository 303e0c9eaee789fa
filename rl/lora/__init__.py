"""A LoRA from its first weights to the file that others load: add, read, average, export."""
