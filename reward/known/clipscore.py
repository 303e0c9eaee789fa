"""CLIPScore: how near a picture is to its prompt for CLIP."""

import torch
from torch import Tensor

from reward.backbone.towers import Backbone
from reward.known.known_reward import About, KnownReward

DEFAULT_BACKBONE = ("ViT-B-32", "openai")
PREFIX = "A photo depicts "
WEIGHT = 2.5


class ClipScore(KnownReward):
    """2.5 max(cos, 0), the prompt after "A photo depicts".

    Args:
        backbone: an open_clip model; the paper's is ViT-B/32 of OpenAI.

    Example:
        >>> ClipScore(Backbone("ViT-B-32", "openai"))(torch.rand(1, 3, 64, 64), "a cat")  # doctest: +SKIP
    """

    name = "clipscore"
    about = About(
        formula="2.5 max(cos(E_image(picture), E_text('A photo depicts ' + prompt)), 0)",
        source="Hessel et al. 2021 (arXiv:2104.08718), reference-free; weights: openai/CLIP ViT-B/32",
        licence="MIT (openai/CLIP)",
        scale="0 to 2.5; photographs with their captions about 0.6 to 0.9",
        trained_on="400 million pictures with their texts from the web; no human scores",
    )

    def __init__(self, backbone: Backbone):
        super().__init__(backbone.transform)
        self.towers = backbone
        self.finished()

    def score(self, pixels: Tensor, prompts: list[str]) -> Tensor:
        image = self.towers.encode_pixels(pixels).float()
        text = self.towers.encode_prompts([PREFIX + prompt for prompt in prompts]).float()
        return WEIGHT * torch.cosine_similarity(image, text).clamp(min=0)
