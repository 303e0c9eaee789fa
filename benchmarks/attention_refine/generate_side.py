"""One way to generate with a random LLaVA of 24 layers; an epoch is one call of `generate`."""

import time
from typing import Any

import torch

PROMPT = [1, 100, 101, *[31999] * 576, *range(200, 220)]


def build(attention: str) -> Any:
    """A LLaVA of 67 M parameters, 24 layers and 576 image tokens, with the same random weights every time."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=32000, hidden_size=384, intermediate_size=1024, num_hidden_layers=24, num_attention_heads=6,
        max_position_embeddings=1024, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=336, patch_size=14
    )
    config = LlavaConfig(
        text_config=text, vision_config=vision, image_token_id=31999, vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    model.set_attn_implementation(attention)
    return model


class GenerateSide:
    """`settings`: `way` (bare, eager with output_attentions, or a mode of contrastive attention) and `tokens`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.way, self.tokens = settings["way"], settings["tokens"]
        self.model = build("eager" if self.way == "eager" else "sdpa")
        self.inputs = {"input_ids": torch.tensor([PROMPT]), "pixel_values": torch.rand(1, 3, 336, 336)}

    def run_epoch(self) -> dict[str, float]:
        """Run one `generate`; returns its seconds and the model's size."""
        started = time.perf_counter()
        self._generate()
        return {
            "seconds": time.perf_counter() - started,
            "million_parameters": sum(p.numel() for p in self.model.parameters()) / 1e6,
        }

    def _generate(self) -> None:
        options = {"max_new_tokens": self.tokens, "do_sample": False}
        if self.way == "bare":
            self.model.generate(**self.inputs, **options)
        elif self.way == "eager":
            self.model.generate(**self.inputs, **options, output_attentions=True, return_dict_in_generate=True)
        else:
            from attention_refine import ContrastiveAttention, ContrastiveAttentionConfig

            config = ContrastiveAttentionConfig.for_depth(24, mode=self.way)
            with ContrastiveAttention(self.model, config) as ca:
                self.model.generate(**self.inputs, **options)
            if len(ca.records[0].ia) != 576:
                raise ValueError(f"Expected 576 image tokens, got {len(ca.records[0].ia)}.")
