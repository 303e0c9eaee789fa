"""Which tokens of a prompt are image tokens, of which image, and where in it they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PromptTokens:
    """The prompt of one prefill: B samples, S tokens, left-padded.

    Attributes:
        image_index: (B, S) integers: number of the image within the sample; −1 = no image token. Newline tokens of
            LLaVA-Next count as no image token.
        newline_index: (B, S) the same for LLaVA-Next's newline tokens alone.
        valid: (B, S) bool, False = padding.
    """

    image_index: Tensor
    newline_index: Tensor
    valid: Tensor

    @property
    def is_image(self) -> Tensor:
        """(B, S) bool."""
        return self.image_index >= 0

    def positions(self, sample: int, image: int) -> Tensor:
        """Where the tokens of one image stand in the prompt: (N,), newlines left out."""
        return torch.nonzero(self.image_index[sample] == image).flatten()


def find_image_token_id(model: nn.Module, given: int | None = None) -> int | None:
    """`given`, or the id in the model's config (`image_token_id`, or `image_token_index` of older ones), or None."""
    if given is not None:
        return given
    config = getattr(model, "config", None)
    for name in ("image_token_id", "image_token_index"):
        value = getattr(config, name, None)
        if value is not None:
            return value
    return None


def find_newline(model: nn.Module) -> Tensor | None:
    """LLaVA-Next's learned newline feature, (D,); None in a model without."""
    for module in (model, getattr(model, "model", None)):
        newline = getattr(module, "image_newline", None)
        if isinstance(newline, Tensor):
            return newline
    return None


def locate_images(placeholders: Tensor, newlines: Tensor, valid: Tensor, lengths: Sequence[int] | None) -> PromptTokens:
    """Number the images of every sample.

    Args:
        placeholders: (B, S) bool, tokens that a vision feature replaces.
        newlines: (B, S) bool, those of them that hold LLaVA-Next's newline.
        valid: (B, S) bool, False = padding.
        lengths: tokens of every image of the batch, in order, newlines included; needed only where one image follows
            another without a token between them. None: an image is a run of placeholders, cut where LLaVA-Next's
            rows change their length.

    Raises:
        ValueError: `lengths` do not add up, or an image would go over the end of a sample.
    """
    device = placeholders.device
    found, new = placeholders.cpu(), (newlines & placeholders).cpu()
    index = torch.full(found.shape, -1, dtype=torch.long)
    remaining = list(lengths) if lengths is not None else None
    if remaining is not None and sum(remaining) != int(found.sum()):
        raise ValueError(f"Expected {sum(remaining)} image tokens from the images given, got {int(found.sum())}.")
    for sample in range(found.shape[0]):
        positions = torch.nonzero(found[sample]).flatten()
        sizes = _cut(positions, new[sample]) if remaining is None else _take(remaining, len(positions))
        for image, part in enumerate(positions.split(sizes) if sizes else ()):
            index[sample, part] = image
    nothing = torch.full_like(index, -1)
    return PromptTokens(
        torch.where(new, nothing, index).to(device), torch.where(new, index, nothing).to(device), valid.to(device)
    )


def _take(remaining: list[int], total: int) -> list[int]:
    taken: list[int] = []
    while sum(taken) < total:
        taken.append(remaining.pop(0))
    if sum(taken) != total:
        raise ValueError(f"Expected whole images in a sample of {total} image tokens, got images of {taken} tokens.")
    return taken


def _cut(positions: Tensor, newlines: Tensor) -> list[int]:
    """Sizes of the images in a sample, by gaps in the positions and by changes of the length of LLaVA-Next's rows."""
    sizes: list[int] = []
    row, width = 0, None  # tokens since the last newline; tokens between this image's newlines
    previous = None
    for position, newline in zip(positions.tolist(), newlines[positions].tolist(), strict=True):
        if previous is None or position != previous + 1:
            sizes.append(0)
            row, width = 0, None
        sizes[-1] += 1
        row += 1
        if newline:
            if width is not None and width != row:
                # A longer gap than a row: the base view of a next image began after the last newline.
                sizes[-1] -= row
                sizes.append(row)
                width = None
            else:
                width = row if sizes[-1] != row else None
            row = 0
        previous = position
    return sizes


def find_grid(model: nn.Module) -> tuple[int, int] | None:
    """Rows and columns of the tokens of one whole picture in a model that makes all pictures the same square.

    LLaVA, LLaVA-Next (its coarse view) and Gemma 3; None for others, e.g. Qwen-VL, where a picture keeps its shape.
    """
    config = getattr(model, "config", None)
    kind, vision = getattr(config, "model_type", ""), getattr(config, "vision_config", None)
    if kind in ("llava", "llava_next"):
        side = vision.image_size // vision.patch_size
        return side, side
    if kind == "gemma3":
        side = isqrt(config.mm_tokens_per_image)
        return side, side
    return None


def fold(values: Tensor, prompt: PromptTokens, sample: int, image: int, grid: tuple[int, int] | None) -> list[Tensor]:
    """Values of one image's tokens as maps over the picture.

    Args:
        values: (B, S).
        grid: rows and columns of the tokens of a whole picture, `find_grid(model)`.

    Returns:
        One (rows, columns) map, of the whole picture. LLaVA-Next: a coarse one of the whole picture, then a fine one,
        its tiles put together. None at all where the tokens form no known grid.
    """
    if grid is None:
        return []
    positions = prompt.positions(sample, image)
    own = values[sample, positions.to(values.device)]
    rows = torch.nonzero(prompt.newline_index[sample] == image).flatten()
    coarse = grid[0] * grid[1]
    if len(own) == coarse:
        return [own.view(grid)]
    if len(rows) and len(own) > coarse and (len(own) - coarse) % len(rows) == 0:
        return [own[:coarse].view(grid), own[coarse:].view(len(rows), -1)]
    return []
