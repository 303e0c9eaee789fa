"""The open_clip backbone: image and text towers with a cache of prompt features, and the gated adapter."""

import math
import threading
import warnings
from collections import OrderedDict

import torch
from torch import Tensor, nn

from reward.backbone.attention import pack_attention
from reward.backbone.image_features import encode_image
from reward.backbone.int8 import Int8ImageTower
from reward.backbone.loading import load_open_clip
from reward.backbone.text_features import encode_text, text_tower
from reward.backbone.tokenization import Tokenizer
from reward.images.preprocess import ImageTransform

CACHE_SIZE = 4096
# Eight images of 224 x 224. Activations of more images are returned to the system after every layer on a CPU, and
# allocating them again costs a ViT-B/16 about 9 % at 32 images.
_CPU_PIXELS = 8 * 224 * 224


class GatedAdapter(nn.Module):
    """Gated residual adapter: u = f + tanh(g) (n / sqrt(D)) W2 gelu(W1 f sqrt(D) / n).

    The gate g starts at 0, so u = f exactly before training. n is the mean feature norm. Dividing by it gives the MLP
    inputs of unit variance for any scale of the backbone.

    Args:
        dim: D, width of the features.
        hidden: width of the bottleneck.
    """

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.down = nn.Linear(dim, hidden)
        self.up = nn.Linear(hidden, dim)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor, mean_norm: Tensor) -> Tensor:
        """Features (..., D) and mean norm () -> adapted features (..., D), not normalised."""
        unit = mean_norm / math.sqrt(features.shape[-1])
        return features + self.gate.tanh() * unit * self.up(nn.functional.gelu(self.down(features / unit)))


class Backbone(nn.Module):
    """A frozen open_clip model: images and prompts -> un-normalised features.

    The model is always in eval mode. Its weights get no gradients unless `unfreeze()` is called; pixels always can.
    Features of prompts are kept in an LRU cache while the text tower is frozen.

    Args:
        name: open_clip model name, hf-hub:ORG/REPO or local-dir:FOLDER.
        pretrained: pretrained tag or weights file; only for an open_clip model name.

    Raises:
        ValueError: the name or tag is unknown, weights are missing, or they were trained with another activation.

    Example:
        >>> backbone = Backbone("ViT-B-16", pretrained="openai")  # doctest: +SKIP
        >>> backbone.encode_prompts(["a red ring"]).shape  # doctest: +SKIP
        torch.Size([1, 512])
    """

    def __init__(self, name: str, pretrained: str | None = None):
        super().__init__()
        loaded = load_open_clip(name, pretrained)
        self.name, self.pretrained = name, pretrained
        self.model = loaded.model
        pack_attention(self.model)
        self.model_config = loaded.model_config
        self.embed_dim: int = loaded.model_config["embed_dim"]
        self.preprocess_config = loaded.preprocess_config
        self.transform = ImageTransform.from_open_clip(loaded.preprocess_config)
        self.tokenizer = Tokenizer(loaded.tokenizer)
        self._text_tower = text_tower(self.model)
        self.fine_tuned = False
        # the image tower in 8 bits, where `use_int8` made one
        self.int8: Int8ImageTower | None = None
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        # flow_grpo and ddpo-pytorch call rewards from a thread pool
        self._lock = threading.Lock()
        self.freeze()
        # open_clip may return a model in training mode
        self.eval()

    def freeze(self):
        """Stop gradients to the weights; returns self."""
        self.requires_grad_(False)
        self.clear_cache()
        return self

    def use_int8(self):
        """Encode pictures in 8 bits from now on where no gradient is asked for; on a CPU, with the extra `int8`.

        Raises:
            ImportError, ValueError: see `Int8ImageTower`.
        """
        self.int8 = Int8ImageTower(self.model, self.transform.size)
        return self

    def unfreeze(self):
        """Let the weights train; from now on the weights are saved with the model."""
        self.int8 = None
        self.requires_grad_(True)
        self.fine_tuned = True
        self.clear_cache()
        return self

    def clear_cache(self):
        """Forget all prompt features. Changes of device, dtype or weights through this class do so themselves."""
        with self._lock:
            self._cache.clear()

    def train(self, mode: bool = True):
        # dropout or batch statistics would make a score depend on its batch
        return super().train(False)

    def _apply(self, fn, recurse=True):
        self.clear_cache()
        self.int8 = None  # made of other weights, or on another device
        return super()._apply(fn, recurse)

    def load_state_dict(self, *args, **kwargs):
        self.clear_cache()
        self.int8 = None
        return super().load_state_dict(*args, **kwargs)

    def __getstate__(self):
        state = self.__dict__.copy()
        state["_lock"], state["_cache"], state["int8"] = None, OrderedDict(), None
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        self._lock = threading.Lock()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def encode_images(self, images: Tensor | list[Tensor]) -> Tensor:
        """Images (B,3,H,W) in [0,1] or uint8, or a list of (3,H,W) -> features (B, D), differentiable."""
        device = self.device
        to_device = [i.to(device) for i in images] if isinstance(images, list) else images.to(device)
        height, width = self.transform.size
        at_once = max(1, _CPU_PIXELS // (height * width))
        if device.type != "cpu" or len(images) <= at_once:
            return self._encode_images(to_device)
        parts = [to_device[i : i + at_once] for i in range(0, len(images), at_once)]
        return torch.cat([self._encode_images(part) for part in parts])

    def _encode_images(self, images: Tensor | list[Tensor]) -> Tensor:
        return self.encode_pixels(self.transform(images))

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Model input (B,3,*size), resized and normalised already -> features (B, D), differentiable."""
        pixels = pixels.to(self.dtype)
        if self.int8 is not None and not (torch.is_grad_enabled() and pixels.requires_grad):
            return self.int8(pixels)
        return encode_image(self.model, pixels)

    def encode_prompts(self, prompts: list[str]) -> Tensor:
        """Prompts -> features (B, D). The cache is used unless the text tower needs gradients."""
        if torch.is_grad_enabled() and any(p.requires_grad for p in self.text_parameters()):
            return self._encode_text(prompts)
        # also held while encoding, because Hugging Face's fast tokenizers raise "Already borrowed" in two threads
        with self._lock:
            found = {p: self._cache[p] for p in prompts if p in self._cache}
            missing = [p for p in dict.fromkeys(prompts) if p not in found]
            if missing:
                with torch.no_grad():
                    found.update(zip(missing, self._encode_text(missing).clone(), strict=True))
            for prompt in dict.fromkeys(prompts):
                self._cache[prompt] = found[prompt]
                self._cache.move_to_end(prompt)
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        # stack copies, so the result can take part in a backward pass even if it was cached in inference mode
        return torch.stack([found[p] for p in prompts])

    def text_parameters(self):
        """Parameters of the text tower."""
        return (p for n, p in self.model.named_parameters() if not n.startswith(("visual.", "logit_")))

    def _encode_text(self, prompts: list[str]) -> Tensor:
        tokens, cut = self.tokenizer(prompts)
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(prompts)} prompts are longer than the backbone's context of "
                f"{tokens.shape[1]} tokens and were cut, for example {cut[0][:80]!r}; this warning is shown once",
                stacklevel=2,
            )
        # cached features must not depend on whether the first caller ran under autocast
        with torch.autocast(self.device.type, enabled=False):
            return encode_text(self.model, tokens, self._text_tower)
