"""Layer names and header of a kohya file, the LoRA format that ComfyUI, A1111 and its forks read.

Files for SD 1.x and 2.x use diffusers' module names, joined by underscores. Files for SDXL use the names of SDXL's
original code (`lora_unet_input_blocks_4_1_...`), because sd-scripts trains that UNet. Its blocks are numbered
consecutively, layers_per_block + 1 for each block of diffusers.
"""

import re
from typing import Any

import torch

from rl.lora.model_card import TrainingRecord

# diffusers' names -> original names, for modules outside the blocks and for the layers of a residual block.
_OUTSIDE = {
    "conv_in": "input_blocks.0.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
_RESIDUAL = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
             "conv_shortcut": "skip_connection"}  # fmt: skip
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def kohya_layers(
    weights: dict[str, torch.Tensor], alpha: float, layers_per_block: int | None
) -> dict[str, torch.Tensor]:
    """The tensors of a kohya file: `NAME.lora_down.weight`, `NAME.lora_up.weight` and the scalar `NAME.alpha`.

    Args:
        weights: under PEFT's names, `down_blocks.0. ... .to_q.lora_A.weight`.
        alpha: the same for every layer.
        layers_per_block: from the UNet's config, for SDXL; None: SD 1.x or 2.x.

    Raises:
        ValueError: a layer that SDXL's original UNet does not have.

    Example:
        >>> sorted(kohya_layers({"conv_in.lora_A.weight": down, "conv_in.lora_B.weight": up}, 16.0, None))
        ['lora_unet_conv_in.alpha', 'lora_unet_conv_in.lora_down.weight', 'lora_unet_conv_in.lora_up.weight']
    """
    parts = {"lora_A": "lora_down", "lora_B": "lora_up"}
    layers = {}
    for name, tensor in weights.items():
        module, part, _ = name.rsplit(".", 2)
        if layers_per_block:
            module = sdxl_module(module, layers_per_block)
        name = "lora_unet_" + module.replace(".", "_")
        layers[f"{name}.{parts[part]}.weight"] = tensor
        layers[f"{name}.alpha"] = torch.tensor(float(alpha))
    return layers


def sdxl_module(module: str, layers_per_block: int) -> str:
    """Name of a diffusers module in SDXL's original UNet.

    Raises:
        ValueError: that UNet has no such module.

    Example:
        >>> sdxl_module("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", 2)
        'input_blocks.4.1.transformer_blocks.0.attn1.to_q'
    """
    if module in _OUTSIDE:
        return _OUTSIDE[module]
    if middle := _MIDDLE.fullmatch(module):
        kind, index, rest = middle.groups()
        place = 1 if kind == "attentions" else 2 * int(index)
        return f"middle_block.{place}.{_inner(kind, rest)}"
    if block := _BLOCK.fullmatch(module):
        side, number, kind, index, rest = block.groups()
        first, period = int(number) * (layers_per_block + 1), layers_per_block + 1
        if kind == "downsamplers":
            return f"input_blocks.{first + period}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            # Third in its block, because every upsampling block of SDXL has attention before it.
            return f"output_blocks.{first + layers_per_block}.2.{rest}"
        stem = f"input_blocks.{1 + first + int(index)}" if side == "down" else f"output_blocks.{first + int(index)}"
        return f"{stem}.{int(kind == 'attentions')}.{_inner(kind, rest)}"
    raise ValueError(f"Expected a layer of SDXL's UNet, got {module}, which has no kohya name. Export as diffusers.")


def _inner(kind: str, rest: str) -> str:
    return _RESIDUAL.get(rest, rest) if kind == "resnets" else rest


def kohya_header(record: TrainingRecord, unet: dict[str, Any], name: str) -> dict[str, str]:
    """Metadata of a kohya file. A1111 reads the model family from it and hides LoRAs of other families.

    Args:
        record: where the LoRA comes from.
        unet: the UNet's config.
        name: of the file.
    """
    # SD 2.x has the wider text encoder. A1111 assumes SD 1.x if the file names no family.
    family = {"ss_v2": unet.get("cross_attention_dim") == 1024}
    if record.is_sdxl:
        family = {"ss_base_model_version": "sdxl_base_v1-0"}
    values = family | {
        "ss_network_module": "networks.lora", "ss_network_dim": record.rank, "ss_network_alpha": record.alpha,
        "ss_sd_model_name": record.base_model, "ss_output_name": name, "ss_epoch": record.epochs,
        "ss_steps": record.optimizer_steps,
    }
    return {key: str(value) for key, value in values.items() if value is not None}
