"""PickScore: a CLIP that was fine-tuned on people's choices in a web app for pictures."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reward.images.preprocess import ImageTransform
from reward.known.known_reward import About, KnownReward

DEFAULT_MODEL, DEFAULT_PROCESSOR = "yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


class PickScore(KnownReward):
    """exp(logit scale) cos(picture, prompt) of a `transformers` CLIPModel.

    Args:
        model: CLIPModel.
        tokenizer: of its text tower.
        images: its image processor; None: CLIP's own constants.
    """

    name = "pickscore"
    about = About(
        formula="exp(t) cos(E_image(picture), E_text(prompt)), t the model's logit scale",
        source="Kirstain et al. 2023 (arXiv:2305.01569); weights: yuvalkirstain/PickScore_v1",
        licence="MIT",
        scale="about 16 to 24; differences between pictures of one prompt are logits of which is preferred",
        trained_on="Pick-a-Pic: 583,747 choices of people between two pictures of their own prompts",
    )

    def __init__(self, model: Any, tokenizer: Any, images: Any = None):
        from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        size = model.config.vision_config.image_size
        mean = getattr(images, "image_mean", None) or OPENAI_DATASET_MEAN
        std = getattr(images, "image_std", None) or OPENAI_DATASET_STD
        super().__init__(ImageTransform((size, size), tuple(mean), tuple(std)))
        self.model, self.tokenizer = model, tokenizer
        self.length = model.config.text_config.max_position_embeddings
        self.finished()

    @classmethod
    def from_pretrained(cls, model: str | Path = DEFAULT_MODEL, processor: str | Path | None = None) -> "PickScore":
        """Load from folders or hub ids, safetensors only; a folder of one's own holds its processor too.

        Raises:
            OSError: neither cached nor reachable, or no safetensors.
        """
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

        processor = processor or (DEFAULT_PROCESSOR if str(model) == DEFAULT_MODEL else model)
        return cls(
            CLIPModel.from_pretrained(model, use_safetensors=True), AutoTokenizer.from_pretrained(processor),
            CLIPImageProcessor.from_pretrained(processor),
        )  # fmt: skip

    def score(self, pixels: Tensor, prompts: list[str]) -> Tensor:
        options = {"padding": True, "truncation": True, "max_length": self.length, "return_tensors": "pt"}
        tokens = self.tokenizer(prompts, **options).to(pixels.device)
        # through the parts: what get_image_features returns has changed between releases
        image = self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)
        text = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        text = self.model.text_projection(text.pooler_output)
        return self.model.logit_scale.exp() * torch.cosine_similarity(image, text)
