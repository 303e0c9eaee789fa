"""The same weights in two formats: an open_clip folder, and a transformers CLIPModel with its processor.

ViT-B/16 has random weights, because speed does not depend on them. The tiny model is the shipped one.
"""

import json
from pathlib import Path

import open_clip
import torch
from open_clip import tokenizer as open_clip_tokenizer
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from tinyworld import weights_path

SIZES = {"ViT-B/16": 224, "tiny": 48}  # of the model's input, in pixels
# GFLOP of one picture in the image tower. The full tower takes 35.13. In the last block only the class token is needed,
# which saves queries, attention, output projection and MLP of 196 tokens: 2 * 196 * (10 * 768 + 2 * 197) * 768.
GFLOP = {"ViT-B/16": 32.70}


def write_open_clip(name: str, folder: Path) -> Path:
    """The open_clip folder of a backbone; it is made if it is not shipped."""
    if name == "tiny":
        return weights_path("open-clip")
    torch.manual_seed(0)
    architecture = name.replace("/", "-")
    model = open_clip.create_model(architecture)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": preprocess_config(model)}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def preprocess_config(model) -> dict:
    """The preprocessing config in open_clip's format."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {key: model.visual.preprocess_cfg[key] for key in keys if key in model.visual.preprocess_cfg}


def write_transformers(source: Path, folder: Path) -> Path:
    """Write the same model with transformers' classes, and a processor that gives the same tokens and pixels."""
    config = json.loads((source / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.create_model(f"local-dir:{source}").eval()
    tokenizer = _tokenizer(source)
    vision, text = config["vision_cfg"], config["text_cfg"]
    common = {"hidden_act": "gelu", "projection_dim": config["embed_dim"]}
    theirs = CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(
                vocab_size=text["vocab_size"], hidden_size=text["width"], intermediate_size=4 * text["width"],
                num_hidden_layers=text["layers"], num_attention_heads=text["heads"], **common,
                max_position_embeddings=text["context_length"], eos_token_id=tokenizer.eos_token_id,
                bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
            ).to_dict(),
            vision_config=CLIPVisionConfig(
                hidden_size=vision["width"], intermediate_size=4 * vision["width"],
                num_hidden_layers=vision["layers"], patch_size=vision["patch_size"], image_size=vision["image_size"],
                num_attention_heads=vision["width"] // vision.get("head_width", 64), **common,
            ).to_dict(),
            projection_dim=config["embed_dim"],
        )
    )  # fmt: skip
    theirs.load_state_dict(renamed(model.state_dict()))
    theirs.save_pretrained(folder)
    pixels = model.visual.preprocess_cfg
    size = vision["image_size"]
    images = CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, image_mean=list(pixels["mean"]),
        image_std=list(pixels["std"]),
    )  # fmt: skip
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename CLIP's weights from open_clip's to transformers' names. The attention matrix is split into three."""
    found = {}
    for key, value in weights.items():
        if key in _WHOLE:
            name, transposed = _WHOLE[key]
            found[name] = value.T.contiguous() if transposed else value
        elif key != "attn_mask":
            tower = "vision_model" if key.startswith("visual.") else "text_model"
            found |= _of_block(tower, key.removeprefix("visual."), value)
    return found


_WHOLE = {
    "logit_scale": ("logit_scale", False),
    "positional_embedding": ("text_model.embeddings.position_embedding.weight", False),
    "token_embedding.weight": ("text_model.embeddings.token_embedding.weight", False),
    "text_projection": ("text_projection.weight", True),
    "ln_final.weight": ("text_model.final_layer_norm.weight", False),
    "ln_final.bias": ("text_model.final_layer_norm.bias", False),
    "visual.proj": ("visual_projection.weight", True),
    "visual.class_embedding": ("vision_model.embeddings.class_embedding", False),
    "visual.positional_embedding": ("vision_model.embeddings.position_embedding.weight", False),
    "visual.conv1.weight": ("vision_model.embeddings.patch_embedding.weight", False),
    "visual.ln_pre.weight": ("vision_model.pre_layrnorm.weight", False),
    "visual.ln_pre.bias": ("vision_model.pre_layrnorm.bias", False),
    "visual.ln_post.weight": ("vision_model.post_layernorm.weight", False),
    "visual.ln_post.bias": ("vision_model.post_layernorm.bias", False),
}
_IN_BLOCK = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}  # fmt: skip


def _of_block(tower: str, key: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    number, _, rest = key.removeprefix("transformer.resblocks.").partition(".")
    block = f"{tower}.encoder.layers.{number}"
    if rest.startswith("attn.in_proj_"):
        part = rest.removeprefix("attn.in_proj_")
        thirds = zip("qkv", value.chunk(3), strict=True)
        return {f"{block}.self_attn.{name}_proj.{part}": third for name, third in thirds}
    module, _, part = rest.rpartition(".")
    return {f"{block}.{_IN_BLOCK[module]}.{part}": value}


def _tokenizer(source: Path):
    """A transformers tokenizer that gives the same ids as open_clip's."""
    if (source / "tokenizer.json").exists():
        return AutoTokenizer.from_pretrained(source)
    own = open_clip_tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in own.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=sorted(own.bpe_ranks, key=own.bpe_ranks.get), model_max_length=77)
