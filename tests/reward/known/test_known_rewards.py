"""Known rewards on small random models of their own classes, against the formula as it was published."""

import sys
import types

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from reward.backbone.fetching import MissingWeightsError
from reward.backbone.towers import Backbone
from reward.known.clipscore import ClipScore
from reward.known.hpsv2 import HPSv2
from reward.known.imscore import ImscoreReward
from reward.known.loading import NAMES, abouts, is_known, load_known
from reward.known.pickscore import PickScore
from reward.known.vqascore import VQAScore
from reward.named_models import load_model
from reward.scoring.inputs import PictureRow
from reward.scoring.precision import set_precision
from reward.scoring.score import score_to_file
from rl.rewards.loading import load_rewards
from tests.attention_refine.tiny_captioner import save_tiny_captioner
from tests.reward.conftest import build_open_clip_folder, save_tokenizer

PROMPTS = ["a red circle", "a blue square", "two red circle"]


@pytest.fixture
def images():
    return torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """Towers of which a picture is like its prompt and another is not: a score of 0 says nothing of its formula."""
    pictures = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    for seed in range(1, 50):
        name = f"local-dir:{build_open_clip_folder(tmp_path_factory.mktemp('towers') / 'clip', seed=seed)}"
        backbone = Backbone(name)
        text = backbone.encode_prompts([f"A photo depicts {prompt}" for prompt in PROMPTS])
        cosines = torch.cosine_similarity(backbone.encode_images(pictures), text)
        if cosines.min() < 0 and cosines.max() > 0.05:
            return name
    raise AssertionError("no such towers")


@pytest.fixture(scope="module")
def pickscore_folder(tmp_path_factory):
    """A CLIPModel of two small towers with a tokenizer and an image processor."""
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    folder = tmp_path_factory.mktemp("pickscore")
    save_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            vocab_size=len(tokenizer), max_position_embeddings=12, eos_token_id=tokenizer.eos_token_id, **sizes
        ).to_dict(),
        vision_config=CLIPVisionConfig(image_size=24, patch_size=8, **sizes).to_dict(),
        projection_dim=8,
    )
    torch.manual_seed(0)
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(folder)
    return folder


def test_clipscore_is_the_papers_formula(towers, images):
    reward = load_known(f"clipscore@{towers}")
    backbone = Backbone(towers)
    image = normalize(backbone.encode_images(images), dim=-1)
    text = normalize(backbone.encode_prompts([f"A photo depicts {prompt}" for prompt in PROMPTS]), dim=-1)
    expected = 2.5 * (image * text).sum(-1).clamp(min=0)
    assert torch.allclose(reward(images, PROMPTS), expected, atol=1e-5)
    assert reward(images, PROMPTS).min() == 0 < reward(images, PROMPTS).max() and isinstance(reward, ClipScore)


def test_pickscore_is_what_transformers_computes(pickscore_folder, images):
    from transformers import CLIPModel, CLIPProcessor

    reward = load_known(f"pickscore@{pickscore_folder}")
    model, processor = CLIPModel.from_pretrained(pickscore_folder), CLIPProcessor.from_pretrained(pickscore_folder)
    pictures = [Image.fromarray((i.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)) for i in images]
    inputs = processor(images=pictures, text=PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.eval()(**inputs).logits_per_image.diagonal()
    assert torch.allclose(reward(pictures, PROMPTS), expected, atol=1e-3)
    assert not torch.allclose(expected[0], expected[1], atol=1e-2) and isinstance(reward, PickScore)


def test_hpsv2_is_the_cosine_of_the_checkpoint_with_the_picture_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("reward.known.hpsv2.ARCHITECTURE", "ViT-S-32")
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32").eval()
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, tmp_path / "hps.pt")
    reward = HPSv2(tmp_path / "hps.pt", "ViT-S-32")
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 240, 3), dtype=np.uint8))
    whole = open_clip.image_transform(224, is_train=False, resize_mode="longest", fill_color=0)
    tokens = open_clip.get_tokenizer("ViT-S-32")(["a cat"])
    with torch.no_grad():
        expected = (
            normalize(model.encode_image(whole(wide)[None]), dim=-1) * normalize(model.encode_text(tokens), dim=-1)
        ).sum()
    assert reward(wide, "a cat").item() == pytest.approx(expected.item(), abs=2e-3)
    cropped = open_clip.image_transform(224, is_train=False, resize_mode="shortest")(wide)
    assert not torch.allclose(cropped, whole(wide), atol=0.1)
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="Expected weights of ViT-S-32 in .*other.pt"):
        HPSv2(tmp_path / "other.pt", "ViT-S-32")
    with pytest.raises(FileNotFoundError, match="Expected the checkpoint of HPS v2"):
        load_known(f"hpsv2@{tmp_path / 'none.pt'}")


def test_vqascore_is_the_probability_of_yes_over_the_whole_vocabulary(tmp_path, images):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = save_tiny_captioner(tmp_path / "captioner")
    reward = load_known(f"vqascore@{folder}")
    found = reward(images, PROMPTS)
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    yes = processor.tokenizer.convert_tokens_to_ids("Yes")
    for picture, prompt, one in zip(images, PROMPTS, found, strict=True):
        pixels = reward.transform(picture[None])[0]
        text = f'Does this figure show "{prompt}"? Please answer yes or no.'
        asked = reward._asked(text)
        shown = Image.fromarray((pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
        with torch.no_grad():
            logits = model.eval()(**processor(images=shown, text=asked, return_tensors="pt")).logits[0, -1]
        assert one.item() == pytest.approx(logits.softmax(-1)[yes].item(), abs=1e-4)
    assert isinstance(reward, VQAScore) and not reward.is_differentiable
    with pytest.raises(ValueError, match="Expected a question with {}"):
        VQAScore(reward.model, reward.processor, "Is it good?")


class Model(torch.nn.Module):
    """As imscore's: scores pixels in [0,1] of any size."""

    loaded: list = []

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    @classmethod
    def from_pretrained(cls, name):
        cls.loaded.append(name)
        return cls()

    def score(self, pixels, prompts):
        return (self.weight * pixels.mean((1, 2, 3)) + torch.tensor([len(p) for p in prompts]))[:, None]


@pytest.fixture
def imscore(monkeypatch):
    package, module = types.ModuleType("imscore"), types.ModuleType("imscore.hps")
    module.HPSv2 = Model
    monkeypatch.setitem(sys.modules, "imscore", package)
    monkeypatch.setitem(sys.modules, "imscore.hps", module)


def test_a_model_of_imscore(imscore, images):
    reward = load_known("imscore@hps.HPSv2:RE-N-Y/hpsv21")
    assert Model.loaded == ["RE-N-Y/hpsv21"] and isinstance(reward, ImscoreReward)
    expected = 2 * images.mean((1, 2, 3)) + torch.tensor([len(prompt) for prompt in PROMPTS])
    assert torch.allclose(reward(images, PROMPTS), expected, atol=1e-2)
    with pytest.raises(ValueError, match="no Other"):
        load_known("imscore@hps.Other:x")
    for wrong in ("hps", "hps.HPSv2", "../x.Y:z"):
        with pytest.raises(ValueError, match="Expected imscore@MODULE.CLASS:HUB_ID"):
            load_known(f"imscore@{wrong}")
    with pytest.raises(ImportError, match="pip install imscore"):
        load_known("imscore@nothing.Model:x")


@pytest.mark.parametrize("name", ["clipscore", "pickscore", "imscore"])
def test_gradients_reach_the_pixels_where_the_model_has_them(name, towers, pickscore_folder, imscore, images):
    source = {"clipscore": towers, "pickscore": pickscore_folder, "imscore": "hps.HPSv2:x"}[name]
    reward = load_known(f"{name}@{source}")
    pixels = images.clone().requires_grad_()
    reward(pixels, PROMPTS).sum().backward()
    assert pixels.grad.abs().sum() > 0 and not any(p.requires_grad for p in reward.parameters())
    assert not reward(images, PROMPTS).requires_grad


def test_in_recipes(towers, tmp_path, images):
    rewards = load_rewards([f"clipscore@{towers}=2"], device="cpu", keep_graph=True)
    pixels = images.clone().requires_grad_()
    total, parts = rewards(pixels, PROMPTS)
    assert rewards.names == ["clipscore"] and torch.allclose(total, 2 * parts["clipscore"])
    total.sum().backward()
    assert pixels.grad.abs().sum() > 0
    folder = save_tiny_captioner(tmp_path / "captioner")
    found = load_rewards(["vqascore@tinyworld:llava"], resolve=lambda name: str(folder))(images, PROMPTS)[0]
    assert ((found > 0) & (found < 1)).all()
    with pytest.raises(ValueError, match="expected a reward with a gradient, vqascore has none"):
        load_rewards([f"vqascore@{folder}"], keep_graph=True)


def test_the_command_scores_with_them(towers, tmp_path, images):
    for number, image in enumerate(images):
        pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    reward = load_model(f"clipscore@{towers}")
    rows = [PictureRow(str(tmp_path / f"{n}.png"), prompt) for n, prompt in enumerate(PROMPTS)]
    count, _ = score_to_file(reward, rows, tmp_path / "s.csv", progress=False)
    assert count.scored == 3
    found = [float(line.rsplit(",", 1)[1]) for line in (tmp_path / "s.csv").read_text().splitlines()[1:]]
    assert found == pytest.approx(reward([row.path for row in rows], PROMPTS).tolist(), abs=1e-5)
    assert set_precision(reward, "auto") == "float32"
    with pytest.raises(ValueError, match="Expected float32 for ClipScore"):
        set_precision(reward, "int8")


def test_each_says_where_it_comes_from():
    assert {name.partition("@")[0].partition("[")[0] for name in abouts()} == set(NAMES)
    for about in abouts().values():
        assert all(vars(about).values())
    assert is_known("hpsv2") and not is_known("runs/hpsv2") and not is_known("clipscore/x")
    for wrong in ("vqascore", "imscore"):
        with pytest.raises(ValueError, match=f"Expected {wrong}@"):
            load_known(wrong)
    with pytest.raises(ValueError, match="Expected one prompt for each of the 2 images but got 1"):
        ImscoreReward(Model())(torch.rand(2, 3, 8, 8), ["x"])


@pytest.mark.parametrize("name", ["clipscore", "pickscore", "hpsv2", "vqascore@nobody/captioner"])
def test_weights_that_are_nowhere_are_one_error(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeightsError, match="Two ways out: run `hyperalign models --fetch"):
        load_known(name)
