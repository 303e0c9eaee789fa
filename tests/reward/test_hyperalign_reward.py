import itertools
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from reward import HyperAlignOutput, HyperAlignReward, hyperalign_reward


def test_contract(reward):
    assert HyperAlignReward.is_differentiable is True and HyperAlignReward.higher_is_better is True
    low, high = HyperAlignReward.score_range
    assert low < 0 < high


def test_an_untrained_head_is_the_cosine_and_warns_once(backbone_name, images, prompts, monkeypatch):
    monkeypatch.setattr(hyperalign_reward, "_warned_untrained", False)
    with pytest.warns(UserWarning, match="This HyperAlign head is untrained: its score equals the backbone's cosine"):
        reward = HyperAlignReward.from_backbone(backbone_name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HyperAlignReward.from_backbone(backbone_name)
    cosine = torch.nn.functional.cosine_similarity(
        reward.backbone.encode_images(images), reward.backbone.encode_prompts(prompts)
    )
    torch.testing.assert_close(reward(images, prompts), cosine)
    assert set(reward.head.state_dict()) and all(torch.isfinite(v).all() for v in reward.explain(images, prompts))


def test_from_backbone_takes_config_fields(backbone_name):
    reward = HyperAlignReward.from_backbone(backbone_name, modulation="none", adapter=False)
    assert reward.head.image_adapter is None and reward.config.modulation == "none"
    with pytest.raises(TypeError, match="unexpected keyword argument 'modulatio'"):
        HyperAlignReward.from_backbone(backbone_name, modulatio="none")


def test_call_and_explain(reward, images, prompts):
    output = reward.explain(images, prompts)
    assert isinstance(output, HyperAlignOutput)
    assert all(value.shape == (4,) and not value.requires_grad for value in output)
    assert torch.equal(reward(images, prompts), output.score)


def test_one_prompt_for_all(reward, images):
    torch.testing.assert_close(reward(images, "a red circle"), reward(images, ["a red circle"] * 4))
    assert reward(images[0], "a").shape == (1,) == reward(images[0], ["a"]).shape
    torch.testing.assert_close(reward(images, ("a", "the", "red", "two")), reward(images, ["a", "the", "red", "two"]))


def test_a_pair_never_depends_on_its_batch(reward, images, prompts):
    together = reward(images, prompts)
    for i in range(4):
        torch.testing.assert_close(reward(images[i], prompts[i])[0], together[i], rtol=1e-4, atol=1e-5)


def test_score_matrix(reward, images, prompts, monkeypatch):
    matrix = reward.score_matrix(images, prompts[:3])
    assert matrix.shape == (4, 3)
    for i, j in itertools.product(range(4), range(3)):
        torch.testing.assert_close(matrix[i, j], reward(images[i], prompts[j])[0], rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(hyperalign_reward, "_MATRIX_CHUNK", 1)
    torch.testing.assert_close(reward.score_matrix(images, prompts[:3]), matrix, rtol=1e-4, atol=1e-5)
    assert reward.score_matrix(images, "a").shape == (4, 1)


def test_every_kind_of_image(reward, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "x.png")
    pixels = torch.from_numpy(array).permute(2, 0, 1)
    expected = reward(pixels, "a")
    # floats are not rounded to 8 bits between resize and model
    assert (reward(pixels / 255, "a") - expected).abs().item() <= 0.01
    for images in (array, Image.fromarray(array), tmp_path / "x.png", [array], array[None]):
        torch.testing.assert_close(reward(images, "a"), expected)
    mixed = reward([array, Image.new("L", (9, 12)), tmp_path / "x.png"], ["a", "the", "a"])
    torch.testing.assert_close(mixed[[0, 2]], expected.expand(2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_scores_match_open_clips_pil_path_on_photographs(build_backbone, tmp_path, resize_mode):
    import open_clip
    from skimage import data

    name = f"local-dir:{build_backbone(tmp_path / 'model', resize_mode)}"
    reward = HyperAlignReward.from_backbone(name)
    _, _, transform = open_clip.create_model_and_transforms(name)
    for photograph in (data.astronaut(), data.coffee(), data.chelsea()):
        image = Image.fromarray(photograph)
        features = reward.backbone.model.encode_image(transform(image)[None])
        theirs = reward.head(features, reward.backbone.encode_prompts(["a photo"])).score
        tensor = torch.from_numpy(photograph).permute(2, 0, 1) / 255
        for ours in (reward(image, "a photo"), reward(tensor, "a photo")):
            assert (ours - theirs).abs().item() <= 0.01


class TestGradients:
    def test_no_graph_without_need(self, reward, images, prompts):
        reward.head.requires_grad_(True)
        assert not reward(images, prompts).requires_grad
        assert not reward.score_matrix(images, prompts).requires_grad
        with torch.no_grad():
            assert not reward(images.requires_grad_(), prompts).requires_grad

    def test_pixels_only(self, reward, images, prompts):
        images.requires_grad_()
        reward(images, prompts).sum().backward()
        assert torch.isfinite(images.grad).all() and (images.grad.flatten(1).abs().sum(1) > 0).all()
        assert all(p.grad is None for p in reward.parameters())

    def test_through_a_list_and_the_matrix(self, reward, images, prompts):
        first = images[0].clone().requires_grad_()
        reward([first, images[1]], prompts[:2]).sum().backward()
        assert first.grad.abs().sum() > 0
        images.requires_grad_()
        reward.score_matrix(images, prompts).sum().backward()
        assert images.grad.abs().sum() > 0

    @pytest.mark.parametrize("size", [24, 31])
    def test_they_agree_with_finite_differences(self, reward, size):
        reward.double()
        coarse = torch.rand(1, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        images = torch.nn.functional.interpolate(0.2 + 0.6 * coarse, size=size, mode="bilinear").requires_grad_()
        score = reward(images, "a red circle")
        assert score.dtype == torch.float64
        (gradient,) = torch.autograd.grad(score.sum(), images)
        generator = torch.Generator().manual_seed(0)
        for _ in range(6):
            direction = torch.randn(images.shape, dtype=torch.float64, generator=generator)
            step = 1e-5 * direction
            with torch.no_grad():
                difference = (reward(images + step, "a red circle") - reward(images - step, "a red circle")) / 2e-5
            assert difference.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-5, abs=1e-9)

    @pytest.mark.parametrize("fill", [0.0, 0.5, 1.0], ids=["black", "grey", "white"])
    @pytest.mark.parametrize("size", [(24, 24), (1, 1), (7, 40)], ids=str)
    def test_flat_pictures(self, reward, fill, size):
        images = torch.full((1, 3, *size), fill, requires_grad=True)
        reward(images, "").backward()
        assert torch.isfinite(images.grad).all()

    @pytest.mark.parametrize("case", ["equal", "opposite", "zero image", "zero text", "huge", "bfloat16"])
    @pytest.mark.parametrize("trained", [True, False])
    def test_edge_cases_of_the_geometry(self, reward, untrained, images, case, trained, monkeypatch):
        """Features forced into the design's edge cases; the tower's graph stays."""
        model = reward if trained else untrained
        text = model.backbone.encode_prompts(["a"])
        encode = model.backbone.encode_images

        def forced(batch):
            features = encode(batch)
            detached = features - features.detach()
            factor = {"opposite": -1.0, "zero image": 0.0, "huge": 1e4}.get(case, 1.0)
            value = detached + factor * (features.detach() if case == "huge" else text)
            return value.to(torch.bfloat16) if case == "bfloat16" else value

        monkeypatch.setattr(model.backbone, "encode_images", forced)
        if case == "zero text":
            monkeypatch.setattr(model.backbone, "encode_prompts", lambda prompts: torch.zeros_like(text))
        images.requires_grad_()
        score = model(images, "a")
        assert torch.isfinite(score).all()
        score.sum().backward()
        assert torch.isfinite(images.grad).all()

    def test_inference_mode_first_does_not_break_later_gradients(self, reward, images):
        with torch.inference_mode():
            reward(images, "a")
        reward(images.clone().requires_grad_(), "a").sum().backward()


class TestPlacement:
    def test_dtype(self, reward, tmp_path, images, prompts):
        reward.save_pretrained(tmp_path / "model")
        low = HyperAlignReward.from_pretrained(tmp_path / "model", device="cpu", dtype=torch.bfloat16)
        assert low.backbone.dtype == torch.bfloat16 and low.head.image_norm.dtype == torch.float32
        score = low(images, prompts)
        assert score.dtype == torch.float32 and torch.isfinite(score).all()
        assert (low.explain(images, prompts).similarity - reward.explain(images, prompts).similarity).abs().max() < 0.05
        images = images.to(torch.bfloat16).requires_grad_()
        low(images, prompts).sum().backward()
        assert images.grad.dtype == torch.bfloat16 and torch.isfinite(images.grad).all()
        double = HyperAlignReward.from_pretrained(tmp_path / "model", dtype=torch.float64)
        torch.testing.assert_close(double(images.detach().double(), prompts).float(), reward(images.detach(), prompts))

    def test_a_whole_module_can_be_cast(self, reward, images, prompts):
        assert torch.isfinite(reward.to(torch.bfloat16)(images, prompts)).all()

    def test_bad_dtype(self, backbone_name):
        with pytest.raises(TypeError, match="Expected a floating dtype but got torch.int64"):
            HyperAlignReward.from_backbone(backbone_name, dtype=torch.int64)

    def test_train_mode_changes_nothing(self, reward, images, prompts):
        expected = reward(images, prompts)
        assert torch.equal(reward.train()(images, prompts), expected)


@pytest.mark.parametrize(
    "prompts, error, message",
    [
        (["a", "b"], ValueError, "Expected one prompt for each of the 4 images, or a single string for all, but got 2"),
        (["a"], ValueError, "but got 1 prompts"),
        ([], ValueError, "Expected at least one prompt but got an empty list"),
        (["a", "b", None, "c"], TypeError, "Expected every prompt to be a string but prompt 2 is None"),
        (3, TypeError, "Expected prompts to be a string or a list of strings but got int"),
    ],
)
def test_bad_prompts(reward, images, prompts, error, message):
    with pytest.raises(error, match=message):
        reward(images, prompts)


def test_bad_images_reach_the_user(reward):
    with pytest.raises(ValueError, match=r"Expected pixel values in \[0, 1\]"):
        reward(torch.full((1, 3, 8, 8), 2.0), "a")


def test_a_head_for_another_backbone(reward):
    import dataclasses

    from reward import HyperAlign

    config = dataclasses.replace(reward.config, embed_dim=8)
    with pytest.raises(ValueError, match="Expected a backbone with features of width 8 but .* has 16"):
        HyperAlignReward(config, HyperAlign(config), reward.backbone)
