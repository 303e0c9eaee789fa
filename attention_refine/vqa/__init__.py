"""VQA benchmarks with their official metrics: `python -m attention_refine.vqa`."""
