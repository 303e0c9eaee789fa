"""Tiny random models of the real classes, built from configs: LLaVA, LLaVA-Next and the text towers of others."""

import pytest
import torch

IMAGE, PAD = 99, 0
TEXT = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 6, "max_position_embeddings": 256, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 4,
}  # fmt: skip


def seeded(build, attention="sdpa"):
    """A model in eval mode whose weights are large enough for its attention to be far from flat."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
        for name, weight in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.data.normal_(0, 0.3)
            elif weight.dim() > 1:
                weight.data.normal_(0, 0.1)
    model.set_attn_implementation(attention)
    return model


def build_llava(attention="sdpa", **text):
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        text_config=LlamaConfig(**(TEXT | text)), vision_config=CLIPVisionConfig(**VISION), image_token_id=IMAGE,
        vision_feature_layer=-1, vision_feature_select_strategy="default",
    )  # fmt: skip
    return seeded(lambda: LlavaForConditionalGeneration(config), attention)


def build_llava_next(attention="sdpa", **text):
    from transformers import CLIPVisionConfig, LlavaNextConfig, LlavaNextForConditionalGeneration, MistralConfig

    config = LlavaNextConfig(
        text_config=MistralConfig(**(TEXT | {"sliding_window": None} | text)), vision_config=CLIPVisionConfig(**VISION),
        image_token_id=IMAGE, vision_feature_layer=-1, vision_feature_select_strategy="default",
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
    )  # fmt: skip
    return seeded(lambda: LlavaNextForConditionalGeneration(config), attention)


def left_padded(prompts):
    """input_ids and attention_mask of token lists of different lengths."""
    length = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (length - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    return {"input_ids": ids, "attention_mask": mask}


def llava_inputs(*prompts, seed=0):
    """Prompts as lists of token ids in which IMAGE stands for one picture (16 tokens)."""
    tokens = [sum(([IMAGE] * 16 if t == IMAGE else [t] for t in p), []) for p in prompts]
    count = sum(p.count(IMAGE) for p in prompts)
    generator = torch.Generator().manual_seed(seed)
    pixels = {"pixel_values": torch.randn(count, 3, 16, 16, generator=generator)} if count else {}
    return left_padded(tokens) | pixels


@pytest.fixture(scope="session")
def llava():
    return build_llava()


@pytest.fixture(scope="session")
def llava_eager():
    return build_llava("eager")


@pytest.fixture(scope="session")
def llava_next():
    return build_llava_next()
