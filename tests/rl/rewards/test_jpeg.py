import io

import torch
from PIL import Image

from rl.rewards.jpeg import jpeg_compressibility, jpeg_incompressibility


def test_size_is_that_of_the_jpeg_file():
    images = torch.rand(3, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    sizes, info = jpeg_incompressibility(images, ("",) * 3, ())
    assert sizes.shape == (3,) and sizes.dtype == torch.float32 and info == {}
    for image, size in zip(images, sizes, strict=True):
        buffer = io.BytesIO()
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=95)
        assert size.item() == torch.tensor(len(buffer.getvalue()) / 1000)


def test_noise_is_larger_than_a_plain_picture():
    images = torch.stack([torch.rand(3, 64, 64), torch.full((3, 64, 64), 0.5)]).requires_grad_()
    noisy, plain = jpeg_incompressibility(images, ("", ""), ())[0]
    assert noisy > 3 * plain
    assert jpeg_compressibility(images, ("", ""), ())[0].tolist() == [-noisy, -plain]


def test_values_beyond_the_range_are_cut_not_wrapped():
    bright = jpeg_incompressibility(torch.full((1, 3, 64, 64), 1.7), ("",), ())[0]
    assert torch.equal(bright, jpeg_incompressibility(torch.ones(1, 3, 64, 64), ("",), ())[0])
