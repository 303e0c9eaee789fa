"""A cache for the vision tower, because the rows of these tables differ only in the language model."""

import hashlib
from typing import Any


def remember_pictures(model: Any) -> Any:
    """Cache the outputs of a LLaVA's vision tower by the picture's content; returns the model."""
    tower, known = model.model.vision_tower, {}
    forward = tower.forward

    def once(pixel_values: Any, *args: Any, **kwargs: Any) -> Any:
        pixels = pixel_values.contiguous().numpy().tobytes()
        key = hashlib.sha256(pixels + repr((tuple(pixel_values.shape), args, sorted(kwargs.items()))).encode()).digest()
        if key not in known:
            known[key] = forward(pixel_values, *args, **kwargs)
        return known[key]

    tower.forward = once
    return model
