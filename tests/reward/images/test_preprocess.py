import math

import numpy as np
import pytest
import torch
from PIL import Image

from reward.images.preprocess import ImageTransform, to_tensors

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MODES = ["shortest", "longest", "squash"]


def photographs() -> dict[str, np.ndarray]:
    from skimage import data

    # those that lie inside scikit-image's wheel
    return {"astronaut": data.astronaut(), "coffee": data.coffee(), "chelsea": data.chelsea(), "rocket": data.rocket()}


def open_clip_input(image: np.ndarray, size, resize_mode: str, interpolation: str = "bicubic") -> torch.Tensor:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(size=size, resize_mode=resize_mode, interpolation=interpolation, fill_color=128)
    return image_transform_v2(config, is_train=False)(Image.fromarray(image))


@pytest.mark.parametrize("resize_mode", MODES)
@pytest.mark.parametrize("size", [224, 64, 600, (64, 96)], ids=str)
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_it_matches_open_clips_pil_path_on_photographs(name, size, resize_mode):
    photograph = photographs()[name]
    pair = (size, size) if isinstance(size, int) else size
    transform = ImageTransform(pair, MEAN, STD, resize_mode=resize_mode, fill_color=128)
    ours = transform(to_tensors(photograph))[0]
    theirs = open_clip_input(photograph, size, resize_mode)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().mean() <= 0.02


@pytest.mark.parametrize("resize_mode", MODES)
@pytest.mark.parametrize("size", [224, 64, (64, 96)], ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_bytes_are_resized_as_pil_does(size, resize_mode, interpolation):
    photograph = photographs()["astronaut"][:, :400]
    pair = (size, size) if isinstance(size, int) else size
    transform = ImageTransform(pair, MEAN, STD, interpolation, resize_mode, fill_color=128)
    theirs = open_clip_input(photograph, size, resize_mode, interpolation)
    steps = 255 * torch.tensor(STD).view(3, 1, 1)
    for image in (photograph, Image.fromarray(photograph), torch.from_numpy(photograph).permute(2, 0, 1)):
        ours = transform(to_tensors(image, keep_bytes=True))[0]
        # in units of one 8-bit step
        difference = ((ours - theirs) * steps).abs()
        assert difference.max() <= 1.01
        assert difference.mean() <= 0.02


def test_bytes_stay_bytes_where_all_of_a_list_are():
    grey, colour = np.full((4, 5), 7, np.uint8), Image.new("RGB", (5, 4), (1, 2, 3))
    together = to_tensors([grey, colour], keep_bytes=True)
    assert together.dtype == torch.uint8
    assert together[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]
    mixed = to_tensors([grey, Image.new("RGBA", (5, 4))], keep_bytes=True)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed[0], torch.full((3, 4, 5), 7 / 255))
    assert to_tensors(grey).dtype == torch.float32


def test_the_callers_array_is_not_shared():
    array = np.zeros((4, 4, 3), np.uint8)
    tensor = to_tensors(array, keep_bytes=True)
    array[:] = 255
    assert not tensor.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(3, 3, 1, 1), (2, 3, 37, 53)])
def test_one_bad_pixel_anywhere_is_found(value, shape):
    for at in (0, -1, 7):
        images = torch.rand(shape)
        images.view(-1)[at] = value
        with pytest.raises(ValueError, match="NaN or Inf"):
            to_tensors(images)


def test_bilinear_matches_too():
    transform = ImageTransform((64, 64), MEAN, STD, interpolation="bilinear")
    photograph = photographs()["chelsea"]
    theirs = open_clip_input(photograph, 64, "shortest", "bilinear")
    assert (transform(to_tensors(photograph))[0] - theirs).abs().mean() <= 0.02


@pytest.mark.parametrize("resize_mode", MODES)
@pytest.mark.parametrize("height, width", [(1, 1), (1, 300), (300, 2), (23, 24), (24, 24), (7, 91)])
def test_any_size_gives_the_model_size(height, width, resize_mode):
    transform = ImageTransform((24, 24), MEAN, STD, resize_mode=resize_mode)
    assert transform(torch.rand(2, 3, height, width)).shape == (2, 3, 24, 24)


@pytest.mark.parametrize("resize_mode", MODES)
def test_gradients_agree_with_finite_differences(resize_mode):
    transform = ImageTransform((5, 5), MEAN, STD, resize_mode=resize_mode)
    images = torch.rand(1, 3, 7, 6, dtype=torch.float64) * 0.6 + 0.2
    assert torch.autograd.gradcheck(transform, (images.requires_grad_(),))


def test_a_batch_of_the_models_size_is_only_normalised():
    images = torch.rand(2, 3, 8, 8)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    assert torch.equal(ImageTransform((8, 8), MEAN, STD)(images), (images - mean) / std)


def test_from_open_clip():
    transform = ImageTransform.from_open_clip(
        {"size": 24, "mean": MEAN, "std": STD, "interpolation": "random", "resize_mode": None}
    )
    assert transform == ImageTransform((24, 24), MEAN, STD)
    assert ImageTransform.from_open_clip({"size": (8, 9), "mean": MEAN, "std": STD}).size == (8, 9)
    with pytest.raises(ValueError, match="Expected resize_mode to be one of .* but got 'crop'"):
        ImageTransform((8, 8), MEAN, STD, resize_mode="crop")
    with pytest.raises(ValueError, match="Expected interpolation to be one of .* but got 'nearest'"):
        ImageTransform((8, 8), MEAN, STD, interpolation="nearest")


def test_every_kind_of_input_gives_the_same_tensor(tmp_path):
    array = photographs()["chelsea"][:40, :50]
    Image.fromarray(array).save(tmp_path / "cat.png")
    expected = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255
    inputs = {
        "float tensor": expected,
        "one float tensor": expected[0],
        "uint8 tensor": (expected * 255).round().to(torch.uint8),
        "PIL": Image.fromarray(array),
        "path": tmp_path / "cat.png",
        "string path": str(tmp_path / "cat.png"),
        "numpy": array,
        "numpy float": array.astype(np.float32) / 255,
        "numpy batch": array[None],
        "list of tensors": [expected[0]],
        "list of PIL": [Image.fromarray(array)],
        "tuple of paths": (tmp_path / "cat.png",),
    }
    for name, images in inputs.items():
        tensor = to_tensors(images)
        assert tensor.shape == (1, 3, 40, 50), name
        torch.testing.assert_close(tensor, expected, msg=name)


def test_dtypes_are_promoted_to_at_least_float32():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert to_tensors(torch.rand(1, 3, 4, 4).to(dtype)).dtype == torch.float32
    assert to_tensors(torch.rand(1, 3, 4, 4).double()).dtype == torch.float64


def test_different_sizes_stay_a_list_and_stack_after_the_transform(tmp_path):
    mixed = [torch.rand(3, 8, 12), Image.new("RGB", (30, 20)), np.zeros((5, 5, 3), np.uint8)]
    tensors = to_tensors(mixed)
    assert [tuple(t.shape) for t in tensors] == [(3, 8, 12), (3, 20, 30), (3, 5, 5)]
    transform = ImageTransform((6, 6), MEAN, STD)
    together = transform(tensors)
    torch.testing.assert_close(together, torch.cat([transform(to_tensors(i)) for i in mixed]))


def test_gradients_flow_through_a_list():
    image = torch.rand(3, 8, 8, requires_grad=True)
    to_tensors([image, torch.rand(3, 8, 8)]).sum().backward()
    assert torch.equal(image.grad, torch.ones(3, 8, 8))


def test_a_small_overshoot_is_tolerated():
    images = torch.rand(1, 3, 4, 4)
    images[0, 0, 0, 0], images[0, 0, 0, 1] = 1.0009, -0.0009
    assert torch.equal(to_tensors(images), images)


@pytest.mark.parametrize(
    "images, error, message",
    [
        (torch.rand(1, 3, 4, 4) * 2 - 1 - 0.5, ValueError, r"Expected pixel values in \[0, 1\] \(tolerance 0.001\)"),
        (torch.full((1, 3, 4, 4), 200.0), ValueError, r"but got \[200, 200\].*pass a uint8 tensor or divide by 255"),
        (np.full((4, 4, 3), 255.0), ValueError, r"Expected pixel values in \[0, 1\]"),
        (torch.full((2, 3, 4, 4), torch.nan), ValueError, r"got NaN or Inf in images \[0, 1\] of the batch"),
        ([torch.zeros(3, 4, 4), torch.full((3, 4, 4), torch.inf)], ValueError, r"NaN or Inf \(image 1 of the list\)"),
        (torch.rand(4, 4), ValueError, r"Expected images of shape \(B,3,H,W\) or \(3,H,W\) but got \(4, 4\)"),
        (torch.rand(1, 1, 3, 4, 4), ValueError, r"Expected images of shape"),
        (torch.rand(2, 4, 4, 3), ValueError, r"Expected 3 channels.*channels-last: use images.permute\(0, 3, 1, 2\)"),
        (torch.rand(2, 1, 4, 4), ValueError, r"Expected 3 channels.*\(2, 1, 4, 4\); pass greyscale or RGBA images as"),
        (torch.rand(2, 7, 4, 4), ValueError, r"Expected 3 channels in images \(B,3,H,W\) but got shape \(2, 7, 4, 4\)"),
        (torch.zeros(0, 3, 4, 4), ValueError, "Expected at least one image but got an empty batch"),
        (torch.zeros(1, 3, 0, 4), ValueError, "Expected images of at least 1x1 pixel"),
        ([], ValueError, "Expected at least one image but got an empty list"),
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError, "Expected at least one image but got an empty batch"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), TypeError, "Expected a float tensor in .* but got torch.int64"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.bool), TypeError, "but got torch.bool"),
        ([torch.rand(1, 3, 4, 4)], ValueError, r"to be one image \(3,H,W\) but got shape \(1, 3, 4, 4\) \(image 0"),
        ([[torch.rand(3, 4, 4)]], TypeError, "Expected a flat list of images but got a list inside it"),
        (3, TypeError, "Expected a tensor, PIL image, path, bytes, open file, .* as images but got builtins"),
        (None, TypeError, "but got builtins.NoneType"),
    ],
)
def test_bad_input(images, error, message):
    with pytest.raises(error, match=message):
        to_tensors(images)
