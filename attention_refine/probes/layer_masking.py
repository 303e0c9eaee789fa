"""The image taken away from a layer on: image tokens set to zero where they enter that layer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attention_refine.contrastive.capture import AttentionCapture


class ImageZeroedFrom(AttentionCapture):
    """While it is entered, the image tokens' hidden states are zero where they enter `layer`, at the prefill.

    That layer and those after it, at every decode step too, have no image to look at; what earlier layers brought into
    the text stays. 0 is a model that never sees the image, the model's depth one that is left as it is. The layer-wise
    masking of "Where Does Vision Meet Language?" (arXiv 2601.08151). LLaVA-Next's newline tokens are zeroed with the
    others: by then they have looked at the image.

    Args:
        model: LLaVA or its like.
        layer: 0 to the number of its decoder layers.

    Raises:
        ValueError: `layer` out of range; and what `AttentionCapture` refuses.

    Example:
        >>> with ImageZeroedFrom(model, 12):  # doctest: +SKIP
        ...     tokens = model.generate(**inputs)
    """

    def __init__(self, model: nn.Module, layer: int, image_token_id: int | None = None) -> None:
        super().__init__(model, layers=(), image_token_id=image_token_id)
        depth = len(self.decoder.layers)
        if not 0 <= layer <= depth:
            raise ValueError(f"Expected a layer of 0 to {depth} (the model's number of layers), got {layer}.")
        self.layer = layer

    def extra_hooks(self) -> list[Callable[[], Any]]:
        """The zeroing."""
        if self.layer == len(self.decoder.layers):
            return []
        return [self.decoder.layers[self.layer].register_forward_pre_hook(self._zero, with_kwargs=True).remove]

    @torch.compiler.disable
    def _zero(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        step = self.step
        if step is None or step.prefill is None or step.seen:
            return None
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        prompt = step.prefill.prompt
        image = (prompt.image_index >= 0) | (prompt.newline_index >= 0)
        # without a cache every step runs the prompt again, with the new tokens behind it
        image = torch.nn.functional.pad(image, (0, hidden.shape[1] - image.shape[1])).to(hidden.device)
        hidden = hidden.masked_fill(image[..., None], 0)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})
