"""HPS v2: a CLIP that was fine-tuned on people's choices between generated pictures."""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from reward.backbone.towers import Backbone
from reward.known.known_reward import About, KnownReward

ARCHITECTURE = "ViT-H-14"
REPOSITORY, CHECKPOINT = "xswu/HPSv2", "HPS_v2.1_compressed.pt"


class HPSv2(KnownReward):
    """cos(picture, prompt) of the published checkpoint; the picture is resized whole and padded, never cropped.

    Args:
        checkpoint: the published .pt, which is read as weights alone (`torch.load(weights_only=True)`).
        architecture: open_clip's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file without weights for the architecture.
    """

    name = "hpsv2"
    about = About(
        formula="cos(E_image(picture), E_text(prompt))",
        source="Wu et al. 2023 (arXiv:2306.09341); weights: xswu/HPSv2, HPS_v2.1_compressed.pt",
        licence="Apache-2.0",
        scale="a cosine; generated pictures about 0.2 to 0.35",
        trained_on="HPD v2: 798,090 choices of people between pictures of the same prompt",
    )

    def __init__(self, checkpoint: str | Path, architecture: str = ARCHITECTURE):
        path = Path(checkpoint)
        if not path.is_file():
            raise FileNotFoundError(f"Expected the checkpoint of HPS v2 but there is none at {path}")
        try:
            backbone = Backbone(architecture, str(path))
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"Expected weights of {architecture} in {path} but got {error}") from error
        super().__init__(dataclasses.replace(backbone.transform, resize_mode="longest", fill_color=0))
        self.towers = backbone
        self.finished()

    def score(self, pixels: Tensor, prompts: list[str]) -> Tensor:
        image, text = self.towers.encode_pixels(pixels).float(), self.towers.encode_prompts(prompts).float()
        return torch.cosine_similarity(image, text)
