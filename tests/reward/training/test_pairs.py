import pytest
import torch

from reward.backbone.towers import Backbone
from reward.training.fit_loop import all_features
from reward.training.pairs import ImagePairs


@pytest.fixture
def pairs(rated_table, backbone_name):
    def make(**options):
        backbone = Backbone(backbone_name).unfreeze()
        images = [rated_table.parent / f"{i}.png" for i in range(5)]
        prompts = ["a red circle", "two blue square", "a red circle", "a photo", "three green triangle"]
        return ImagePairs(backbone, images, prompts, torch.linspace(0, 1, 5), **options)

    return make


def test_features_are_the_backbones_own(pairs):
    found = pairs(chunk=2)
    image, text = all_features(found)
    assert image.shape == text.shape == (5, found.backbone.embed_dim) and not image.requires_grad
    rows = torch.tensor([3, 0])
    with_gradient = found.features(rows)
    assert all(f.requires_grad for f in with_gradient)
    torch.testing.assert_close(with_gradient[0], image[rows])
    torch.testing.assert_close(with_gradient[1], text[rows])
    torch.testing.assert_close(text[0], text[2])


def test_prompts_are_encoded_with_the_weights_of_now(pairs):
    found = pairs()
    before = all_features(found)[1]
    with torch.no_grad():
        for parameter in found.backbone.text_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert not torch.allclose(all_features(found)[1], before)


def test_half_precision_is_the_image_towers_alone(pairs):
    image, text = pairs(mixed_precision="bf16").features(torch.arange(2))
    whole = pairs().features(torch.arange(2))
    torch.testing.assert_close(text, whole[1])
    assert not torch.equal(image.float(), whole[0]) and torch.allclose(image.float(), whole[0], rtol=0.1, atol=0.1)


def test_fingerprints_and_lengths(pairs, backbone_name):
    first, second = pairs(), pairs()
    assert first.fingerprint() == second.fingerprint()
    second.prompts[1] = "a photo"
    assert first.fingerprint() != second.fingerprint()
    with pytest.raises(ValueError, match="as many images as prompts and scores but got 5, 5 and 4"):
        ImagePairs(first.backbone, first.images, first.prompts, first.scores[:4])
