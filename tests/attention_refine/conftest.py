"""Tiny random models of the real classes, built from configs: LLaVA, LLaVA-Next and the text towers of others."""

import pytest
import torch

from attention_refine.contrastive.config import ContrastiveAttentionConfig
from attention_refine.contrastive.wrapper import ContrastiveAttention

IMAGE, PAD = 99, 0
TEXT = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 6, "max_position_embeddings": 256,
    "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": None,
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
                weight.data.normal_(0, 0.2)
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


def build_gemma3(attention="sdpa"):
    """Gemma 3 with vision; 4 tokens a picture, windows of 6 tokens on every other layer."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

    kinds = ["sliding_attention", "full_attention"] * 3
    text = Gemma3TextConfig(**TEXT, head_dim=8, query_pre_attn_scalar=8, sliding_window=6, layer_types=kinds)
    config = Gemma3Config(
        text_config=text, vision_config=SiglipVisionConfig(**VISION), mm_tokens_per_image=4, image_token_id=IMAGE,
        boi_token_index=97, eoi_token_index=98,
    )  # fmt: skip
    return seeded(lambda: Gemma3ForConditionalGeneration(config), attention)


def gemma3_inputs(seed=0):
    """Two prompts of different lengths, each with a picture near its end."""
    prompts = [[1, 5, 6, 97, *[IMAGE] * 4, 98, 3], [1, 5, 6, 7, 8, 9, 97, *[IMAGE] * 4, 98, 3]]
    inputs = left_padded(prompts)
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return inputs | {"pixel_values": pixels, "token_type_ids": (inputs["input_ids"] == IMAGE).long()}


def build_text_tower(name, attention="sdpa"):
    """The language model of another family, alone; sliding windows of 12 tokens where it has them."""
    import transformers
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    kinds = ["sliding_attention", "full_attention"] * 3
    kind, config = {
        "llama": (transformers.LlamaForCausalLM, lambda: transformers.LlamaConfig(**TEXT)),
        "mistral": (
            transformers.MistralForCausalLM,
            lambda: transformers.MistralConfig(**TEXT, sliding_window=12),
        ),
        "gemma3": (
            transformers.Gemma3ForCausalLM,
            lambda: transformers.Gemma3TextConfig(
                **TEXT, head_dim=8, query_pre_attn_scalar=8, sliding_window=12, layer_types=kinds
            ),
        ),
        "qwen2_5_vl": (Qwen2_5_VLTextModel, lambda: Qwen2_5_VLTextConfig(**TEXT, rope_parameters=rope)),
        "qwen3_vl": (Qwen3VLTextModel, lambda: Qwen3VLTextConfig(**TEXT, head_dim=8, rope_parameters=rope)),
    }[name]
    return seeded(lambda: kind(config()), attention)


def llava_next_inputs(*prompts, sizes, seed=0):
    """As `llava_inputs`; `sizes`: (height, width) of every picture in order, whose tiles are of 16 x 16 pixels."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

    pinpoints = [[16, 32], [32, 16], [32, 32]]
    lengths = []
    for size in sizes:
        rows, columns = get_anyres_image_grid_shape(size, pinpoints, 16)
        height, width = unpad_image(torch.zeros(1, rows * 4, columns * 4), size).shape[1:]
        lengths.append(16 + height * (width + 1))
    left = iter(lengths)
    tokens = [sum(([IMAGE] * next(left) if t == IMAGE else [t] for t in p), []) for p in prompts]
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(len(sizes), 5, 3, 16, 16, generator=generator)
    return left_padded(tokens) | {"pixel_values": pixels, "image_sizes": torch.tensor(sizes)}


# -- contrastive attention on the tiny LLaVA

POST, CANDIDATES, REVIEW = 3, (0, 2), 4
PROMPTS = ([1, 5, 99, 7, 8], [1, 99, 3], [1, 2, 3, 4, 99, 9, 9, 8, 7, 6])
GREEDY = {"max_new_tokens": 6, "do_sample": False, "suppress_tokens": [IMAGE]}
SCORES = GREEDY | {"return_dict_in_generate": True, "output_logits": True}


def config(mode="residual", lam=0.1, rho=0.55, **changes):
    layers = {"post_layer": POST, "candidate_layers": CANDIDATES, "review_layer": REVIEW}
    return ContrastiveAttentionConfig(**(layers | {"mode": mode, "lam": lam, "rho": rho} | changes))


def generated(model, inputs, settings, **options):
    """Logits of every step (B, steps, V), the tokens, and the records."""
    with ContrastiveAttention(model, settings) as ca:
        out = model.generate(**inputs, **(SCORES | options))
    return torch.stack(out.logits, 1), out.sequences, ca.records


def assert_same(one, other, rtol=0, atol=2e-5):
    torch.testing.assert_close(one[0], other[0], rtol=rtol, atol=atol)
    assert torch.equal(one[1], other[1])
