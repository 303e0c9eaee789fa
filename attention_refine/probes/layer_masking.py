"""Remove the image from a layer on: the image tokens' hidden states are set to zero at its input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attention_refine.contrastive.capture import AttentionCapture


class ImageZeroedFrom(AttentionCapture):
    """Context in which the image tokens' hidden states are set to zero at the input of `layer`, in the prefill.

    From this layer on, also in decode steps, the model cannot see the image. What earlier layers moved from the image
    into the text tokens stays. With layer 0 the model never sees the image; with the number of layers it is unchanged.
    This is the layer-wise masking of "Where Does Vision Meet Language?" (arXiv 2601.08151). LLaVA-Next's newline tokens
    are set to zero too, because earlier layers let them attend to the image.

    Args:
        model: LLaVA or a similar model.
        layer: 0 to the number of decoder layers.
        image_token_id: id of the image placeholder; None takes it from the model's config.

    Raises:
        ValueError: `layer` is out of range; also as `AttentionCapture`.

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
        """The hook that sets the hidden states to zero."""
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
        # without a cache, every step runs the prompt again, followed by the new tokens
        image = torch.nn.functional.pad(image, (0, hidden.shape[1] - image.shape[1])).to(hidden.device)
        hidden = hidden.masked_fill(image[..., None], 0)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})
