"""How the attention on the image moves from layer to layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from attention_refine.contrastive.capture import AttentionCapture
from attention_refine.contrastive.contrast import image_attention
from attention_refine.vqa.answering import Answerer, batches
from attention_refine.vqa.layouts import VQAQuestion


@dataclass(frozen=True)
class AttentionShift:
    """Attention of the last prompt token, mean over heads, over N questions at L layers.

    Attributes:
        image_share: (N, L), the share of the attention that the image tokens get, 0 to 1.
        distance: (N, L, L), Hellinger distance of the attention over the image tokens between layers, 0 to 1.
    """

    image_share: np.ndarray
    distance: np.ndarray

    def steps(self) -> np.ndarray:
        """(N, L): distance of each layer to the one before; the first layer's is NaN."""
        steps = np.full(self.image_share.shape, np.nan)
        layers = np.arange(1, steps.shape[1])
        steps[:, 1:] = self.distance[:, layers, layers - 1]
        return steps


@torch.no_grad()
def measure_shift(answerer: Answerer, questions: Sequence[VQAQuestion], batch_size: int) -> AttentionShift:
    """One prefill a question, with the attention of every layer recorded.

    Raises:
        ValueError: a prompt without image tokens; and what `AttentionCapture` refuses.
    """
    shares, distances = [], []
    with AttentionCapture(answerer.model) as capture:
        for batch in batches(questions, batch_size):
            answerer.model(**answerer.inputs(batch), use_cache=False)
            rows = torch.stack([capture.rows[layer].cpu() for layer in sorted(capture.rows)], dim=1)
            image = capture.prompt.is_image.cpu()[:, None]
            if not bool(image.any(-1).all()):
                raise ValueError("Expected image tokens in every prompt, got one without. Is it a model for pictures?")
            shares.append((rows * image).sum(-1))
            attention = image_attention(rows, image).double()
            # summed in double precision, or the distance of equals would be 0.0003
            root = (attention / attention.sum(-1, keepdim=True)).sqrt()
            # H = sqrt(1 - sum sqrt(p q)) for two distributions
            distances.append((1 - root @ root.mT).clamp(min=0).sqrt())
    return AttentionShift(torch.cat(shares).double().numpy(), torch.cat(distances).numpy())
