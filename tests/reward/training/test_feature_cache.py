import warnings

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from reward.backbone.towers import Backbone
from reward.training import feature_cache
from reward.training.feature_cache import UnreadablePictures, backbone_features

PROMPTS = ["a red circle", "two blue square", "a red circle", "a photo"]


@pytest.fixture
def paths(tmp_path, images):
    """Four pictures, two of them of another size."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(images):
        array = (image * 255).byte().permute(1, 2, 0).numpy()
        picture = Image.fromarray(array)
        (picture if i < 2 else picture.resize((40, 30))).save(folder / f"{i}.png")
    return [folder / f"{i}.png" for i in range(4)]


@pytest.fixture
def backbone(backbone_name):
    return Backbone(backbone_name)


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures and prompts were really encoded."""
    counts = {"images": 0, "prompts": 0}
    for method in counts:
        original = getattr(Backbone, f"encode_{method}")

        def counting(self, batch, original=original, method=method):
            counts[method] += len(batch)
            return original(self, batch)

        monkeypatch.setattr(Backbone, f"encode_{method}", counting)
    return counts


def features(backbone, paths, prompts=PROMPTS, cache_dir=None, **options):
    return backbone_features(backbone, paths, prompts, cache_dir, progress=False, **options)


def test_they_are_the_backbones_own(backbone, paths, tmp_path):
    with torch.no_grad():
        image = torch.cat([backbone.encode_images(feature_cache.to_tensors(path, keep_bytes=True)) for path in paths])
        text = backbone.encode_prompts(PROMPTS)
    assert (image.norm(dim=-1) - 1).abs().min() > 0.01, "not normalised"
    for cache_dir in (None, tmp_path / "cache", tmp_path / "cache"):
        for batch_size in (1, 3, 32):
            got = features(backbone, paths, cache_dir=cache_dir, batch_size=batch_size)
            torch.testing.assert_close(got, (image, text), rtol=1e-4, atol=1e-5)
            assert all(g.dtype == torch.float32 and not g.requires_grad for g in got)


def test_nothing_is_encoded_twice(backbone, paths, tmp_path, encoded):
    first = features(backbone, paths, cache_dir=tmp_path / "cache")
    assert encoded == {"images": 4, "prompts": 3}
    again = features(backbone, paths, cache_dir=str(tmp_path / "cache"))
    assert encoded == {"images": 4, "prompts": 3}
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    more = features(backbone, [*paths, paths[0]], ["a triangle", PROMPTS[0]], tmp_path / "cache")
    assert encoded == {"images": 4, "prompts": 4}
    assert torch.equal(more[0], first[0][[0, 1, 2, 3, 0]]) and torch.equal(more[1][1], first[1][0])
    (file,) = (tmp_path / "cache").iterdir()
    assert file.name.startswith("open-clip-") and file.suffix == ".safetensors"
    assert load_file(file)["image_features"].shape == (4, backbone.embed_dim)


def test_content_counts_and_not_the_name(backbone, paths, tmp_path, encoded):
    before = features(backbone, paths, cache_dir=tmp_path / "cache")[0]
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[1].read_bytes())
    assert torch.equal(features(backbone, [copy], [], tmp_path / "cache")[0][0], before[1])
    assert encoded["images"] == 4
    paths[0].write_bytes(paths[3].read_bytes())
    after = features(backbone, paths, cache_dir=tmp_path / "cache")[0]
    assert torch.equal(after[0], before[3]) and encoded["images"] == 4
    with Image.open(paths[0]) as picture:
        flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    flipped.save(paths[0])
    assert not torch.allclose(features(backbone, paths, cache_dir=tmp_path / "cache")[0][0], before[3], atol=1e-4)
    assert encoded["images"] == 5


def test_each_backbone_has_its_own_file(backbone, build_backbone, paths, tmp_path, encoded):
    """Other weights, another transform, another dtype: other features; the same files elsewhere: the same."""
    cache = tmp_path / "cache"
    first = features(backbone, paths, cache_dir=cache)
    for change in ({"seed": 1}, {"resize_mode": "squash"}):
        name = f"local-dir:{build_backbone(tmp_path / str(change) / 'open-clip', **change)}"
        own = features(Backbone(name), paths, cache_dir=cache)
        assert not torch.allclose(own[0], first[0], atol=1e-3)
    features(Backbone(backbone.name).to(torch.bfloat16), paths, cache_dir=cache)
    assert len(list(cache.iterdir())) == 4 and encoded["images"] == 16
    moved = Backbone(f"local-dir:{build_backbone(tmp_path / 'elsewhere' / 'open-clip')}")
    assert torch.equal(features(moved, paths, cache_dir=cache)[0], first[0])
    assert len(list(cache.iterdir())) == 4 and encoded["images"] == 16
    with torch.no_grad():
        moved.model.visual.proj.mul_(2)
    torch.testing.assert_close(features(moved, paths, cache_dir=cache)[0], 2 * first[0])


def test_another_tokenizer_is_another_text(backbone, paths, tmp_path, monkeypatch):
    before = features(backbone, [], ["a red circle"], tmp_path / "cache")[1]
    tokenizer = backbone.tokenizer.open_clip_tokenizer
    monkeypatch.setattr(
        backbone.tokenizer, "open_clip_tokenizer", lambda texts: tokenizer(["a blue circle"] * len(texts))
    )
    monkeypatch.setattr(backbone.tokenizer, "_full_ids", lambda prompts: [None] * len(prompts))
    backbone.clear_cache()
    assert not torch.allclose(features(backbone, [], ["a red circle"], tmp_path / "cache")[1], before, atol=1e-3)


def test_unreadable_pictures_are_told_at_the_end(backbone, paths, tmp_path, encoded):
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:200])
    (tmp_path / "same.png").write_bytes(paths[0].read_bytes()[:200])
    rows = [tmp_path / "gone.png", paths[0], tmp_path / "cut.png", paths[1], tmp_path / "same.png", tmp_path]
    with pytest.raises(UnreadablePictures, match="Expected readable pictures but 4 are not; .*--skip-bad") as caught:
        features(backbone, rows, cache_dir=tmp_path / "cache", batch_size=1)
    assert caught.value.rows == (0, 2, 4, 5)
    for reason, name in zip(caught.value.reasons, ("gone.png", "cut.png", "same.png", str(tmp_path)), strict=True):
        assert name in reason and name in str(caught.value)
    assert encoded == {"images": 2, "prompts": 3}
    good = [row for i, row in enumerate(rows) if i not in caught.value.rows]
    features(backbone, good, cache_dir=tmp_path / "cache")
    assert encoded == {"images": 2, "prompts": 3}


def test_an_interrupted_run_keeps_what_it_had(backbone, paths, tmp_path, encoded, monkeypatch):
    encode = Backbone.encode_images

    def interrupted(self, batch):
        if encoded["images"] == 2:
            raise KeyboardInterrupt
        return encode(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Backbone, "encode_images", interrupted)
        features(backbone, paths, cache_dir=tmp_path / "cache", batch_size=1)
    features(backbone, paths, cache_dir=tmp_path / "cache", batch_size=1)
    assert encoded["images"] == 4


def test_saving_on_the_way_loses_nothing(backbone, paths, tmp_path, encoded, monkeypatch):
    monkeypatch.setattr(feature_cache, "SAVE_EVERY_SECONDS", -1)
    first = features(backbone, paths, cache_dir=tmp_path / "cache", batch_size=1)
    again = features(backbone, paths, cache_dir=tmp_path / "cache", batch_size=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert encoded == {"images": 4, "prompts": 3}


def test_two_writers_keep_each_others_entries(backbone, paths, tmp_path, encoded, monkeypatch):
    encode = Backbone.encode_images
    monkeypatch.setattr(Backbone, "encode_images", lambda self, batch: (other(), encode(self, batch))[1])
    running = []

    def other():
        if not running:
            running.append(True)
            features(backbone, paths[2:], [], tmp_path / "cache")

    features(backbone, paths[:2], [], tmp_path / "cache")
    features(backbone, paths, [], tmp_path / "cache")
    assert encoded["images"] == 4


@pytest.mark.parametrize("content", [b"", b"damaged", None, "flipped"])
def test_a_damaged_cache_is_written_anew(backbone, paths, tmp_path, encoded, content):
    first = features(backbone, paths, cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    damaged = {None: whole[:-7], "flipped": whole[:-7] + bytes([whole[-7] ^ 1]) + whole[-6:]}
    file.write_bytes(damaged.get(content, content))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = features(backbone, paths, cache_dir=tmp_path / "cache")
    assert [str(w.message) for w in caught if "is not a valid feature cache" in str(w.message)] and len(caught) == 1
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)) and encoded["images"] == 8
    features(backbone, paths, cache_dir=tmp_path / "cache")
    assert encoded["images"] == 8


def test_a_callers_autocast_leaves_no_trace(backbone, paths, tmp_path):
    plain = features(backbone, paths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(features(backbone, paths), plain, rtol=0, atol=0)


def test_features_that_are_not_finite(backbone, paths, tmp_path):
    with torch.no_grad():
        backbone.model.visual.proj.fill_(float("nan"))
    with pytest.raises(ValueError, match="Expected finite features but got NaN or Inf for .*0.png"):
        features(backbone, paths, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_no_pictures_no_prompts_and_bad_batches(backbone, paths):
    image, text = features(backbone, [], [])
    assert image.shape == text.shape == (0, backbone.embed_dim)
    with pytest.raises(ValueError, match="Expected batch_size of at least 1 but got 0"):
        features(backbone, paths, batch_size=0)


def test_the_bar_is_shown_only_when_asked_for(backbone, paths, capsys):
    features(backbone, paths)
    assert capsys.readouterr().err == ""
    backbone_features(backbone, paths, PROMPTS, None)
    assert "image features" in capsys.readouterr().err
