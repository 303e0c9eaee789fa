"""Do pictures show what their prompts say? A captioner is asked: `hyperalign-caption-check`."""
