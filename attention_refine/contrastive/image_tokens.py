"""Find the image tokens of a prompt: their image and their place in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PromptTokens:
    """The prompt of one prefill: B samples of S tokens, padded on the left.

    Attributes:
        image_index: (B, S) integers, the number of the token's image within its sample; −1 for other tokens. The
            newline tokens of LLaVA-Next are not image tokens.
        newline_index: (B, S) integers, the same for LLaVA-Next's newline tokens only.
        valid: (B, S) bool, False for padding.
    """

    image_index: Tensor
    newline_index: Tensor
    valid: Tensor

    @property
    def is_image(self) -> Tensor:
        """Mask of the image tokens, (B, S) bool."""
        return self.image_index >= 0

    def positions(self, sample: int, image: int) -> Tensor:
        """Positions in the prompt of the N tokens of one image, (N,), without newline tokens."""
        return torch.nonzero(self.image_index[sample] == image).flatten()


def find_image_token_id(model: nn.Module, given: int | None = None) -> int | None:
    """`given`, else the id in the model's config (`image_token_id`, in older models `image_token_index`), else None."""
    if given is not None:
        return given
    config = getattr(model, "config", None)
    for name in ("image_token_id", "image_token_index"):
        value = getattr(config, name, None)
        if value is not None:
            return value
    return None


def find_newline(model: nn.Module) -> Tensor | None:
    """LLaVA-Next's learned newline feature, (D,); None for a model without it."""
    for module in (model, getattr(model, "model", None)):
        newline = getattr(module, "image_newline", None)
        if isinstance(newline, Tensor):
            return newline
    return None


def locate_images(placeholders: Tensor, newlines: Tensor, valid: Tensor, lengths: Sequence[int] | None) -> PromptTokens:
    """Number the images of every sample.

    Args:
        placeholders: (B, S) bool, tokens that are replaced by vision features.
        newlines: (B, S) bool, the placeholders that are LLaVA-Next's newline.
        valid: (B, S) bool, False for padding.
        lengths: number of tokens of every image of the batch, in order, with newlines. It is needed only if images
            follow each other without a token in between. With None, an image is a run of placeholders, cut where the
            rows of LLaVA-Next change their length.

    Raises:
        ValueError: the sum of `lengths` is wrong, or an image would continue beyond its sample.
    """
    device = placeholders.device
    found, new = placeholders.cpu(), (newlines & placeholders).cpu()
    index = torch.full(found.shape, -1, dtype=torch.long)
    remaining = list(lengths) if lengths is not None else None
    if remaining is not None and sum(remaining) != int(found.sum()):
        raise ValueError(f"Expected {sum(remaining)} image tokens for the given images, got {int(found.sum())}.")
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
    """Sizes of the images in a sample, from gaps in the positions and changes in the length of LLaVA-Next's rows."""
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
                # longer than a row: the base view of the next image began after the last newline
                sizes[-1] -= row
                sizes.append(row)
                width = None
            else:
                width = row if sizes[-1] != row else None
            row = 0
        previous = position
    return sizes


def find_grid(model: nn.Module) -> tuple[int, int] | None:
    """(rows, columns) of the tokens of one picture, for a model that resizes every picture to the same square.

    These are LLaVA, LLaVA-Next (for its coarse view) and Gemma 3. Returns None for others, e.g. Qwen-VL, where a
    picture keeps its shape.
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
    """Arrange the values of one image's tokens as maps over the picture.

    Args:
        values: (B, S).
        prompt: the prompt of the values.
        sample, image: number of the sample, and of the image within it.
        grid: (rows, columns) of the tokens of a whole picture, from `find_grid(model)`.

    Returns:
        a list with one (rows, columns) map of the whole picture. For LLaVA-Next: a coarse map of the whole picture,
        then a fine map joined from its tiles. The list is empty if the tokens form no known grid.
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
