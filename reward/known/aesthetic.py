"""An aesthetic head over CLIP features as a reward: `aesthetic:HEAD.safetensors@BACKBONE[/PRETRAINED]`.

The heads of LAION-Aesthetics (github.com/christophschuhmann/improved-aesthetic-predictor) are a sequence of linear
layers without activations, applied to the L2-normalised image features of CLIP ViT-L/14. Dropout is only used in
training. The weights are not part of this package.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

DEFAULT_BACKBONE = "ViT-L-14/openai"


class AestheticReward:
    """score = W_n(... W_1(f / |f|) ...), where f are the image features of an open_clip model. Prompts are ignored.

    Args:
        head: safetensors file with the layers' `weight` (out,in) and `bias` (out,), in the order of their names.
        backbone: open_clip's NAME/PRETRAINED, or a `local-dir:` or `hf-hub:` name.
        device: of head and backbone.

    Raises:
        ValueError: not a safetensors file, or layers that do not fit each other or the backbone.
        FileNotFoundError: no such file.

    Example:
        >>> reward = AestheticReward("models/sac+logos+ava1-l14-linearMSE.safetensors")
        >>> reward(torch.rand(2, 3, 224, 224), ["", ""], ())[0].shape
        torch.Size([2])
    """

    def __init__(self, head: str | Path, backbone: str = DEFAULT_BACKBONE, device: Any = None) -> None:
        from reward.backbone.towers import Backbone

        self.layers = read_head(Path(head))
        name, pretrained = backbone, None
        if not backbone.startswith(("local-dir:", "hf-hub:")):
            name, _, pretrained = backbone.partition("/")
        self.backbone = Backbone(name, pretrained or None).to(device or "cpu")
        width = self.layers[0][0].shape[1]
        if width != self.backbone.embed_dim:
            raise ValueError(
                f"Expected a head over {self.backbone.embed_dim} features, the width of {backbone}, got one over "
                f"{width} in {head}. Name its backbone: aesthetic:{head}@BACKBONE/PRETRAINED."
            )
        self.layers = [(weight.to(device or "cpu"), bias.to(device or "cpu")) for weight, bias in self.layers]

    def __call__(
        self, images: torch.Tensor, prompts: Sequence[str], metadata: Any
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Score pictures (B,3,H,W) in [0,1]: (B,), about 1 to 10 with LAION's heads; differentiable in the pictures."""
        features = self.backbone.encode_images(self.backbone.transform(images.to(self.backbone.device))).float()
        hidden = torch.nn.functional.normalize(features, dim=-1)
        for weight, bias in self.layers:
            hidden = torch.nn.functional.linear(hidden, weight, bias)
        return hidden.squeeze(-1), {}


def read_head(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Read a head: (weight, bias) of its linear layers, first to last, float32.

    Raises:
        ValueError, FileNotFoundError: see `AestheticReward`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected the weights of an aesthetic head, got {path}: no such file.")
    try:
        tensors = load_file(path)
    except Exception as error:
        raise ValueError(
            f"Expected a safetensors file, got {path} ({error}). A .pth file is a pickle, which is not loaded here. "
            "Convert it once: safetensors.torch.save_file(torch.load(FILE, weights_only=True), OUT)."
        ) from error
    names = sorted((name for name in tensors if name.endswith("weight")), key=_numbers)
    layers = []
    for name in names:
        weight, bias = tensors[name].float(), tensors.get(name.removesuffix("weight") + "bias")
        if weight.ndim != 2 or bias is None or bias.shape != weight.shape[:1]:
            raise ValueError(f"Expected linear layers with weight (out,in) and bias (out,) in {path}, got {name}.")
        if layers and layers[-1][0].shape[0] != weight.shape[1]:
            raise ValueError(
                f"Expected layers that fit each other in {path}, got {name} with {weight.shape[1]} inputs after a "
                f"layer with {layers[-1][0].shape[0]} outputs."
            )
        layers.append((weight, bias.float()))
    if not layers or layers[-1][0].shape[0] != 1:
        raise ValueError(f"Expected a head that ends in one number, got layers {names} in {path}.")
    return layers


def _numbers(name: str) -> list[int]:
    # so that layers.10 comes after layers.2
    return [int(number) for number in re.findall(r"\d+", name)]
