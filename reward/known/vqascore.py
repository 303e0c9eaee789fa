"""VQAScore: how likely a vision-language model is to say that the picture shows the prompt."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reward.images.preprocess import ImageTransform
from reward.known.known_reward import About, KnownReward

QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
ANSWER = "Yes"


class VQAScore(KnownReward):
    """P("Yes" | picture, question): of the whole vocabulary, the probability of the answer's first token.

    Not differentiable: the picture goes through the model's own processor.

    Args:
        model: an `AutoModelForImageTextToText`.
        processor: its `AutoProcessor`.
        question: with {} in the prompt's place.

    Raises:
        ValueError: a question without {}, or a tokenizer without a token for the answer.
    """

    name = "vqascore"
    about = About(
        formula="P('Yes' | picture, 'Does this figure show \"{prompt}\"? Please answer yes or no.')",
        source="Lin et al. 2024 (arXiv:2404.01291); weights: the captioner that you name, the paper's is CLIP-FlanT5",
        licence="that of the captioner",
        scale="0 to 1; what counts as high differs between captioners",
        trained_on="what the captioner was trained on; no human scores of pictures",
    )
    is_differentiable = False

    def __init__(self, model: Any, processor: Any, question: str = QUESTION):
        # pictures as they are: the processor resizes
        super().__init__(ImageTransform((448, 448), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resize_mode="longest"))
        if "{}" not in question:
            raise ValueError(f"Expected a question with {{}} in the prompt's place but got {question!r}")
        self.model, self.processor, self.question = model, processor, question
        tokenizer = getattr(processor, "tokenizer", processor)
        tokens = tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
        if not tokens or tokens[0] == tokenizer.unk_token_id:
            raise ValueError(f"Expected a tokenizer that knows {ANSWER!r}, this one does not; name another captioner")
        self.answer = tokens[0]
        # decoder-only models answer where the last token stands
        tokenizer.padding_side = "left"
        self.finished()

    @classmethod
    def from_pretrained(cls, source: str | Path) -> "VQAScore":
        """Load a captioner's folder or hub id, safetensors only."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        model = AutoModelForImageTextToText.from_pretrained(source, use_safetensors=True)
        return cls(model, AutoProcessor.from_pretrained(source))

    @torch.no_grad()
    def score(self, pixels: Tensor, prompts: list[str]) -> Tensor:
        from PIL import Image

        pictures = (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        texts = [self._asked(self.question.format(prompt)) for prompt in prompts]
        inputs = self.processor(
            images=[Image.fromarray(picture) for picture in pictures], text=texts, padding=True, return_tensors="pt"
        ).to(pixels.device)
        found = self.model.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        return found.logits[0].float().softmax(-1)[:, self.answer]

    def _asked(self, question: str) -> str:
        if not getattr(self.processor, "chat_template", None):
            token = getattr(self.processor, "image_token", "<image>")
            return f"USER: {token}\n{question} ASSISTANT:"
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
