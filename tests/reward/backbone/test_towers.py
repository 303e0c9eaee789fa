import copy
import pickle
import threading
import warnings

import pytest
import torch

from reward.backbone import towers
from reward.backbone.towers import Backbone, GatedAdapter

LONG = "a red circle left of a blue square and a green triangle above"


@pytest.fixture
def backbone(backbone_name) -> Backbone:
    return Backbone(backbone_name)


@pytest.fixture
def text_calls(backbone) -> list[int]:
    """How many prompts each run of the text tower had."""
    calls = []
    backbone.model.transformer.resblocks[0].register_forward_pre_hook(lambda _, x: calls.append(len(x[0])))
    return calls


class TestGatedAdapter:
    def test_gate_zero_is_the_identity(self):
        features = torch.randn(4, 16)
        assert torch.equal(GatedAdapter(16, 8)(features, torch.tensor(3.0)), features)

    def test_it_scales_with_the_features(self):
        adapter = GatedAdapter(16, 8)
        torch.nn.init.constant_(adapter.gate, 0.7)
        features = torch.randn(4, 16)
        once = adapter(features, torch.tensor(4.0))
        torch.testing.assert_close(adapter(10 * features, torch.tensor(40.0)), 10 * once)

    def test_only_the_gate_has_a_gradient_at_first(self):
        adapter = GatedAdapter(16, 8)
        adapter(torch.randn(4, 16), torch.tensor(4.0)).sum().backward()
        assert adapter.gate.grad != 0 and adapter.up.weight.grad.abs().sum() == 0


def test_features_are_open_clips_own_and_not_normalised(backbone, images, prompts):
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(backbone.name)
    model.eval()
    theirs = model.encode_image(torch.stack([transform_tensor(transform, i) for i in images]))
    torch.testing.assert_close(backbone.encode_images(images), theirs, rtol=1e-4, atol=1e-4)
    text = backbone.encode_prompts(prompts)
    torch.testing.assert_close(text, model.encode_text(backbone.tokenizer(prompts)[0]))
    assert text.norm(dim=-1).std() > 0


def transform_tensor(transform, image: torch.Tensor) -> torch.Tensor:
    """open_clip's transform without the step through 8 bits: only the normalisation matters at the model's size."""
    return transform.transforms[-1](image)


def test_it_is_frozen_and_always_in_eval_mode(backbone, images):
    assert not any(m.training for m in backbone.modules()), "as it comes from open_clip"
    backbone.train()
    assert not any(m.training for m in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    images.requires_grad_()
    backbone.encode_images(images).sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("ragged", [False, True])
def test_a_cpu_takes_large_batches_in_parts(backbone, monkeypatch, count, ragged):
    images = torch.rand(count, 3, 20, 24)
    images = [image[..., : 20 + i] for i, image in enumerate(images)] if ragged else images
    whole = backbone.encode_images(images)
    height, width = backbone.transform.size
    monkeypatch.setattr(towers, "_CPU_PIXELS", 2 * height * width)
    sizes = []
    backbone.model.visual.transformer.resblocks[0].register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    torch.testing.assert_close(backbone.encode_images(images), whole, rtol=1e-5, atol=1e-5)
    assert sizes == [2] * (count // 2) + [1] * (count % 2)


@pytest.mark.parametrize("unfrozen", [False, True])
def test_parts_have_the_gradients_of_the_whole(backbone, monkeypatch, unfrozen):
    if unfrozen:
        backbone.unfreeze()
    weights = [p for p in backbone.model.visual.parameters() if p.requires_grad]
    assert bool(weights) == unfrozen
    gradients = []
    for at_once in (5, 2):
        height, width = backbone.transform.size
        monkeypatch.setattr(towers, "_CPU_PIXELS", at_once * height * width)
        images = torch.rand(5, 3, 20, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
        features = backbone.encode_images(images)
        gradients.append(torch.autograd.grad((features * features.detach().roll(1, 0)).sum(), [images, *weights]))
    assert all(g.abs().sum() > 0 for g in gradients[0][0])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_prompts_are_encoded_once(backbone, text_calls):
    first = backbone.encode_prompts(["a red circle", "a", "a red circle"])
    assert text_calls == [2] and torch.equal(first[0], first[2])
    second = backbone.encode_prompts(["a", "a red circle", "the photo"])
    assert text_calls == [2, 1] and torch.equal(second[1], first[0]) and torch.equal(second[0], first[1])


def test_the_cache_forgets_the_least_recently_used(backbone, text_calls, monkeypatch):
    monkeypatch.setattr(towers, "CACHE_SIZE", 2)
    backbone.encode_prompts(["a"])
    backbone.encode_prompts(["red"])
    backbone.encode_prompts(["a"])
    backbone.encode_prompts(["blue"])  # pushes "red" out
    backbone.encode_prompts(["a"])
    assert text_calls == [1, 1, 1]
    backbone.encode_prompts(["red"])
    assert text_calls == [1, 1, 1, 1]
    assert backbone.encode_prompts(["a", "red", "blue", "green"]).shape == (4, 16)  # more than fit


def test_the_cache_follows_dtype_and_weights(backbone):
    single = backbone.encode_prompts(["a"])
    double = backbone.double().encode_prompts(["a"])
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)
    other = {k: v + 0.01 for k, v in backbone.state_dict().items()}
    backbone.load_state_dict(other)
    assert not torch.allclose(backbone.encode_prompts(["a"]), double)


def test_a_training_text_tower_is_never_cached(backbone, text_calls):
    backbone.unfreeze()
    assert backbone.fine_tuned
    assert backbone.encode_prompts(["a"]).requires_grad and backbone.encode_prompts(["a"]).requires_grad
    assert text_calls == [1, 1]
    assert not backbone.freeze().encode_prompts(["a"]).requires_grad


def test_inference_mode_leaves_usable_features(backbone, images):
    with torch.inference_mode():
        backbone.encode_prompts(["a"])
    images.requires_grad_()
    (backbone.encode_images(images) * backbone.encode_prompts(["a"])).sum().backward()
    assert torch.isfinite(images.grad).all()


def test_autocast_does_not_change_cached_features(backbone):
    expected = backbone.encode_prompts(["a"])
    backbone.clear_cache()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(backbone.encode_prompts(["a"]), expected)


def test_long_prompts_warn_once(backbone):
    with pytest.warns(UserWarning, match="1 of 2 prompts are longer than the backbone's context of 10 tokens"):
        backbone.encode_prompts([LONG, "a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.encode_prompts([LONG + " red"])


def test_words_beyond_the_context_do_not_count(backbone):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = backbone.encode_prompts([LONG, LONG + " red"])
    torch.testing.assert_close(one, two)


def test_it_can_be_copied_pickled_and_shared_by_threads(backbone):
    expected = backbone.encode_prompts(["a", "red"])
    for twin in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert torch.equal(twin.encode_prompts(["a", "red"]), expected)
    backbone.clear_cache()
    results = []
    threads = [threading.Thread(target=lambda: results.append(backbone.encode_prompts(["a", "red"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for result in results:
        torch.testing.assert_close(result, expected)
