"""Pictures of a run: convert tensors to PIL pictures, save them, draw grids with captions."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from reward.files.writing import write_whole

_TINY, _LARGE = 192, 256  # pixels; pictures in a grid are enlarged to at least _TINY and reduced to at most _LARGE
_FONT_SIZE, _LINES, _MARGIN = 13, 3, 8


def save_picture(image: torch.Tensor, path: Path) -> None:
    """Write a picture (3,H,W) in [0,1] as PNG, atomically."""
    write_whole(path, lambda temporary: to_picture(image).save(temporary, format="PNG"))


def to_picture(image: torch.Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] as a PIL picture of the same size."""
    pixels = torch.nan_to_num(image.detach().float().cpu(), nan=0.0).clamp(0, 1)
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def draw_grid(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Draw pictures of the same size in a nearly square grid on white, each above its caption."""
    pictures = [_readable_size(picture) for picture in pictures]
    font = ImageFont.load_default(size=_FONT_SIZE)
    width, height = pictures[0].size
    line_height = sum(font.getmetrics())
    texts = [_wrap(caption, font, width) for caption in captions]
    text_height = line_height * max(len(lines) for lines in texts)
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    cell = (width + _MARGIN, height + text_height + _MARGIN)
    grid = Image.new("RGB", (columns * cell[0] + _MARGIN, rows * cell[1] + _MARGIN), "white")
    draw = ImageDraw.Draw(grid)
    for index, (picture, lines) in enumerate(zip(pictures, texts, strict=True)):
        left = _MARGIN + index % columns * cell[0]
        top = _MARGIN + index // columns * cell[1]
        grid.paste(picture, (left, top))
        for number, line in enumerate(lines):
            draw.text((left, top + height + number * line_height), line, fill="black", font=font)
    return grid


def _readable_size(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    if side < _TINY:
        factor = math.ceil(_TINY / side)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    if side > _LARGE:
        scale = _LARGE / side
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        return picture.resize(size, Image.Resampling.LANCZOS)
    return picture


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    # Replace control characters and line breaks. They would be drawn as boxes or move text over the next pictures.
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    lines: list[str] = []
    while text and len(lines) < _LINES:
        fits = next(n for n in range(min(len(text), width), 0, -1) if n == 1 or font.getlength(text[:n]) <= width)
        cut = fits if fits == len(text) else text.rfind(" ", 1, fits + 1)
        cut = fits if cut < 1 else cut  # a word longer than the line is broken
        lines.append(text[:cut])
        text = text[cut:].lstrip()
    if text:
        last = lines[-1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        lines[-1] = last + "…"
    return lines or [""]
