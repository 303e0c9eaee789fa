"""Measure how the attention over the image changes from layer to layer."""

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
    """Attention of the last prompt token, mean over heads, for N questions at L layers.

    Attributes:
        image_share: (N, L), share of the attention on the image tokens, in [0, 1].
        distance: (N, L, L), Hellinger distance between the layers' attention over the image tokens, in [0, 1].
    """

    image_share: np.ndarray
    distance: np.ndarray

    def steps(self) -> np.ndarray:
        """Distance of each layer to the layer before it, (N, L); NaN for the first layer."""
        steps = np.full(self.image_share.shape, np.nan)
        layers = np.arange(1, steps.shape[1])
        steps[:, 1:] = self.distance[:, layers, layers - 1]
        return steps


@torch.no_grad()
def measure_shift(answerer: Answerer, questions: Sequence[VQAQuestion], batch_size: int) -> AttentionShift:
    """Run one prefill per question and compare the attention of all layers.

    Args:
        answerer: the model with its processor.
        questions: N questions.
        batch_size: questions per prefill.

    Raises:
        ValueError: a prompt has no image tokens; also as `AttentionCapture`.
    """
    shares, distances = [], []
    with AttentionCapture(answerer.model) as capture:
        for batch in batches(questions, batch_size):
            answerer.model(**answerer.inputs(batch), use_cache=False)
            rows = torch.stack([capture.rows[layer].cpu() for layer in sorted(capture.rows)], dim=1)
            image = capture.prompt.is_image.cpu()[:, None]
            if not bool(image.any(-1).all()):
                raise ValueError(
                    "Expected image tokens in every prompt, got a prompt without any. Use a vision-language model."
                )
            shares.append((rows * image).sum(-1))
            attention = image_attention(rows, image).double()
            # normalised in double precision; otherwise equal rows would have a distance of 0.0003
            root = (attention / attention.sum(-1, keepdim=True)).sqrt()
            # H = sqrt(1 - sum sqrt(p q)) for two distributions
            distances.append((1 - root @ root.mT).clamp(min=0).sqrt())
    return AttentionShift(torch.cat(shares).double().numpy(), torch.cat(distances).numpy())
