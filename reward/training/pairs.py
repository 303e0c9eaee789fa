"""Training pairs: precomputed features, or images that a backbone encodes while it is trained too."""

import contextlib
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike

import torch
from torch import Tensor

from reward.backbone.towers import Backbone
from reward.images.preprocess import to_tensors
from reward.model.head import HyperAlign
from reward.tables.rows import StoredPicture

_READERS = 4
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class FeaturePairs:
    """Precomputed backbone features of N pairs with their human scores, checked against a head.

    Args:
        head: sets the expected width, and the device and dtype that the tensors are moved to.
        image_features, text_features: un-normalised, each (N, D).
        scores: human scores in [0, 1], (N,).
        name: name of the pairs in error messages, for example "training".
        nested: rows (M,), and text features (M, D) of a shorter prompt and of another prompt's, for the compositional
            entailment loss.

    Raises:
        ValueError: the shapes do not fit, scores are outside [0, 1], values are not finite, or there are no pairs.
    """

    backbone = None
    # pairs per forward pass without gradients
    chunk = 8192

    def __init__(
        self,
        head: HyperAlign,
        image_features: Tensor,
        text_features: Tensor,
        scores: Tensor,
        name: str,
        nested: tuple[Tensor, Tensor, Tensor] | None = None,
    ):
        self.image, self.text, self.scores = _checked(head, image_features, text_features, scores, name)
        self.nested = None
        if nested is not None:
            rows, own, foreign = nested
            place = torch.full((len(self.scores),), -1, device=self.scores.device)
            place[rows.to(place.device)] = torch.arange(len(rows), device=place.device)
            self.nested = (place, own.detach().to(self.text), foreign.detach().to(self.text))

    def __len__(self) -> int:
        return len(self.scores)

    def features(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(image, text) features of (B,) rows, each (B, D)."""
        return self.image[rows], self.text[rows]

    def nested_features(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Text features (M, D) of those of the rows that have shorter prompts, of these, and of other prompts'."""
        if self.nested is None:
            return None
        places, own, foreign = self.nested
        known = rows[places[rows] >= 0]
        return self.text[known], own[places[known]], foreign[places[known]]

    def fingerprint(self) -> str:
        """A digest of all features and scores."""
        digest = hashlib.sha256()
        for values in (self.image, self.text, self.scores, *(self.nested or ())):
            digest.update(values.cpu().numpy().tobytes())
        return digest.hexdigest()


class ImagePairs:
    """Images, prompts and human scores of N pairs. A backbone that is trained too encodes them at every step.

    Args:
        backbone: must be unfrozen by the caller.
        images, prompts: paths and texts, N each.
        scores: human scores in [0, 1], (N,).
        mixed_precision: precision of the image tower's forward pass: no, bf16 or fp16.
        chunk: pairs per forward pass without gradients.

    Raises:
        ValueError: the lengths differ.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Sequence[str | PathLike | StoredPicture],
        prompts: Sequence[str],
        scores: Tensor,
        mixed_precision: str = "no",
        chunk: int = 32,
    ):
        if not len(images) == len(prompts) == len(scores):
            raise ValueError(
                f"Expected as many images as prompts and scores but got {len(images)}, {len(prompts)} and {len(scores)}"
            )
        self.backbone, self.images, self.prompts = backbone, list(images), list(prompts)
        self.scores = scores.to(backbone.device)
        self.dtype = _DTYPES.get(mixed_precision)
        self.chunk = chunk
        self._readers = ThreadPoolExecutor(_READERS)

    def __len__(self) -> int:
        return len(self.scores)

    def features(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(image, text) features of (B,) rows, each (B, D); with gradients to the backbone if grad mode is on."""
        indices = rows.tolist()
        pictures = list(self._readers.map(lambda i: to_tensors(self.images[i], keep_bytes=True)[0], indices))
        device = self.backbone.device
        if not torch.is_grad_enabled():
            # the cache of prompt features is outdated after an optimiser step
            self.backbone.clear_cache()
        with torch.autocast(device.type, self.dtype) if self.dtype else contextlib.nullcontext():
            image = self.backbone.encode_images([picture.to(device) for picture in pictures])
        return image, self.backbone.encode_prompts([self.prompts[i] for i in indices])

    def nested_features(self, rows: Tensor) -> None:
        """None: a backbone that trains is told of pairs alone."""
        return None

    def fingerprint(self) -> str:
        """A digest of all paths, prompts and scores."""
        digest = hashlib.sha256(self.scores.cpu().numpy().tobytes())
        for image, prompt in zip(self.images, self.prompts, strict=True):
            digest.update(f"{image}\0{prompt}\0".encode())
        return digest.hexdigest()


def _checked(head: HyperAlign, image: Tensor, text: Tensor, scores: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    image, text, scores = (x.detach().to(head.image_norm) for x in (image, text, scores))
    head.check_features(image, text)
    if image.ndim != 2 or text.ndim != 2 or not len(image) == len(text) == len(scores) or scores.ndim != 1:
        raise ValueError(
            f"Expected {name} features (N, D), (N, D) and scores (N,) but got {tuple(image.shape)}, "
            f"{tuple(text.shape)} and {tuple(scores.shape)}"
        )
    if len(scores) == 0:
        raise ValueError(f"Expected at least one {name} pair but got none")
    for part, values in (("image features", image), ("text features", text), ("scores", scores)):
        if not torch.isfinite(values).all():
            raise ValueError(f"Expected finite {name} {part} but got NaN or Inf")
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(
            f"Expected {name} scores in [0, 1] but got [{scores.min():.4g}, {scores.max():.4g}]; rescale them, for "
            "example (score - low) / (high - low)"
        )
    return image, text, scores
