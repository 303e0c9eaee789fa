"""English, by spaCy's parse: what a prompt names, what it says of it, and how it wants the picture made."""
