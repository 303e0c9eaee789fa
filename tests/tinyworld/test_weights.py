"""The shipped weights, through the libraries' own loaders: they are there, small, and as good as PROVENANCE.md says."""

import copy

import numpy as np
import open_clip
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load
from transformers import CLIPTextModel

from reward import HyperAlignReward
from tinyworld import weights_path
from tinyworld.data import sample_pairs
from tinyworld.models.dual_encoder import tokenize
from tinyworld.models.flow import load_flow_pipeline, measure_flow_samples
from tinyworld.models.hyperalign_head import measure_reward, rated_pairs
from tinyworld.models.stable_diffusion import measure_autoencoder, measure_samples, save_pipeline, to_hub_layout
from tinyworld.scenes import heldout_prompts

WEIGHTS = weights_path("open-clip").parent


@pytest.fixture(scope="module")
def pipeline():
    return StableDiffusionPipeline.from_pretrained(
        weights_path("stable-diffusion"), safety_checker=None, requires_safety_checker=False, dtype=torch.float32
    )


@pytest.fixture(scope="module")
def reward():
    return HyperAlignReward.from_pretrained(weights_path("hyperalign"))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="Expected one of stable-diffusion, open-clip, hyperalign, llava, flow"):
        weights_path("../secrets")


def test_weights_are_small_safetensors_with_provenance():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ".md", ".jinja"}
    assert "python -m tinyworld.pretrain" in (WEIGHTS / "PROVENANCE.md").read_text()
    assert not any("_name_or_path" in path.read_text() for path in files if path.suffix == ".json")


@pytest.mark.parametrize(("file", "tower", "level"), [
    ("stable-diffusion/text_encoder", "", "text_model."), ("llava", "vision_tower.", "vision_model."),
    ("flow/text_encoder", "", "text_model."), ("flow/text_encoder_2", "", "text_model."),
])  # fmt: skip
def test_towers_are_named_as_on_the_hub(file, tower, level):
    """What newer transformers save of a model built from its config, older ones load as noise, with a warning."""
    with safe_open(WEIGHTS / file / "model.safetensors", framework="pt") as stored:
        names = [key for key in stored.keys() if key.startswith(tower) and key != "text_projection.weight"]
    assert names and all(name.startswith(tower + level) for name in names)


def test_saving_names_them_so(pipeline, tmp_path):
    config = copy.deepcopy(pipeline.text_encoder.config)
    built = StableDiffusionPipeline(**(pipeline.components | {"text_encoder": CLIPTextModel(config).half()}))
    vae, unet = pipeline.vae.dtype, pipeline.unet.dtype
    save_pipeline(built, tmp_path / "saved")
    pipeline.vae.to(vae), pipeline.unet.to(unet)
    file = tmp_path / "saved" / "text_encoder" / "model.safetensors"
    once = file.read_bytes()
    to_hub_layout(file, "", "text_model.")
    assert load(file.read_bytes()).keys() == load(once).keys() and all(k.startswith("text_model.") for k in load(once))
    found = CLIPTextModel.from_pretrained(file.parent).state_dict()
    assert all(torch.equal(found[key].half(), value.half()) for key, value in built.text_encoder.state_dict().items())


@pytest.mark.parametrize("held_out", [False, True])
def test_the_autoencoder_keeps_the_facts(pipeline, held_out):
    quality = measure_autoencoder(pipeline.vae, 256, held_out)
    print(f"autoencoder, held_out={held_out}: {quality}")
    assert quality["right"] >= 0.95 and quality["psnr"] > 28


def test_samples_of_held_out_prompts_show_what_the_prompts_say(pipeline):
    score = measure_samples(pipeline, heldout_prompts()[:128], 1.5)
    print(f"oracle on held-out prompts at guidance 1.5: {score:.3f}")
    assert score > 0.4  # pictures of other prompts score below 0.25, see test_oracle.py


def test_samples_of_the_flow_matching_model_show_what_held_out_prompts_say():
    score = measure_flow_samples(load_flow_pipeline(weights_path("flow")), heldout_prompts()[:128], 2.0)
    print(f"flow: oracle on held-out prompts at guidance 2: {score:.3f}")
    assert score > 0.7


def test_the_flow_matching_model_is_small_and_has_the_autoencoder_of_the_other(pipeline):
    folder = weights_path("flow")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 6e6
    flow = load_flow_pipeline(folder)
    assert flow.transformer.dtype == flow.text_encoder.dtype == flow.text_encoder_2.dtype == torch.float32
    assert flow.vae.config.shift_factor == 0.0
    theirs = pipeline.vae.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in flow.vae.state_dict().items())


def test_the_pipeline_loads_and_draws_without_any_argument():
    pipe = StableDiffusionPipeline.from_pretrained(weights_path("stable-diffusion"))
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a red ring", num_inference_steps=2, output_type="pt").images
    assert picture.shape == (1, 3, 48, 48) and torch.isfinite(picture).all()


def test_open_clip_loads_the_encoder_and_its_tokenizer():
    name = f"local-dir:{weights_path('open-clip')}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    texts = ["a red ring", "a red ring left of a blue square"]
    assert torch.equal(tokenizer(texts), tokenize(texts))
    assert model.encode_text(tokenizer(texts)).shape == (2, 96)


def test_the_reward_orders_pairs_as_the_oracle_does_and_its_geometry_says_something(pipeline, reward):
    pairs = rated_pairs(pipeline.vae, 7, 1000, held_out=True, noise=0.0)
    measured = measure_reward(reward, *pairs)
    print("reward on held-out scenes: " + ", ".join(f"{key} {value:.3f}" for key, value in measured.items()))
    assert measured["spearman_reward"] > 0.6
    assert measured["std_text_radius"] > 0.02
    for quantity in ("distance", "exterior_angle", "half_aperture"):
        assert abs(measured[f"cosine_and_{quantity}"]) < 0.98


def test_the_reward_prefers_the_right_prompt_and_has_a_gradient(reward):
    pictures, prompts = sample_pairs(np.random.default_rng(11), 16)
    texts = [prompt.text for prompt in prompts]
    pictures.requires_grad_()
    right = reward(pictures, texts)
    wrong = reward(pictures, texts[1:] + texts[:1])
    assert right.mean() > wrong.mean() + 0.2
    right.sum().backward()
    assert torch.isfinite(pictures.grad).all() and pictures.grad.abs().sum() > 0
