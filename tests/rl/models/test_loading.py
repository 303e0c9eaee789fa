import json

import pytest
import torch

from rl.models.loading import absent_parts, load_pipeline
from tests.rl.models.flow_pipelines import sd3


@pytest.mark.parametrize(
    ("folder", "name"),
    [("tiny_pipeline_folder", "StableDiffusionPipeline"), ("tiny_sdxl_folder", "StableDiffusionXLPipeline")],
)
def test_loads_whichever_pipeline_the_folder_is(request, folder, name, caplog):
    pipeline = load_pipeline(str(request.getfixturevalue(folder)), torch.bfloat16)
    assert type(pipeline).__name__ == name
    assert pipeline.unet.dtype == pipeline.vae.dtype == pipeline.text_encoder.dtype == torch.bfloat16
    assert getattr(pipeline, "safety_checker", None) is None
    assert "safety_checker" not in caplog.text


def index_of(folder, name, scheduler="FlowMatchEulerDiscreteScheduler", **config):
    """A folder that holds what is read before any weights are."""
    index = {"_class_name": name, "scheduler": ["diffusers", scheduler]} if name else {}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": scheduler} | config))
    return str(folder)


@pytest.mark.parametrize(
    ("name", "scheduler", "reason"),
    [
        (None, "", "got no class in .*: diffusers has no such class"),
        ("StableDiffusionXLImg2ImgPipeline", "DDIMScheduler", "Img2Img pipelines start from a picture"),
        ("FluxKontextPipeline", "FlowMatchEulerDiscreteScheduler", "Kontext pipelines start from a picture"),
        ("WanPipeline", "UniPCMultistepScheduler", "it takes num_frames"),
        ("StableCascadeCombinedPipeline", "DDPMWuerstchenScheduler", "its denoiser is .* not one transformer"),
        ("StableDiffusionPAGPipeline", "EulerDiscreteScheduler", "its denoiser is unet, not one transformer"),
        ("PixArtSigmaPipeline", "DPMSolverMultistepScheduler", "DPMSolverMultistepScheduler, is not flow matching"),
        ("FluxPipeline", "NoSuchScheduler", "which diffusers does not have"),
    ],
)
def test_another_class_is_refused_before_its_weights_are_read(tmp_path, name, scheduler, reason):
    expected = "StableDiffusionPipeline or StableDiffusionXLPipeline or one with a transformer and a flow-matching"
    with pytest.raises(ValueError, match=f"(?s){expected}.*{reason}"):
        load_pipeline(index_of(tmp_path, name, scheduler), torch.float32)


@pytest.mark.parametrize(
    ("name", "scheduler", "config"),
    [
        ("StableDiffusion3Pipeline", "FlowMatchEulerDiscreteScheduler", {}),
        ("SanaPipeline", "DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}),
        ("HiDreamImagePipeline", "FlowMatchHeunDiscreteScheduler", {}),
    ],
)
def test_a_flow_matching_class_is_let_through(tmp_path, monkeypatch, name, scheduler, config):
    import diffusers

    monkeypatch.setattr(getattr(diffusers, name), "from_pretrained", lambda model, dtype: (model, dtype))
    folder = index_of(tmp_path, name, scheduler, **config)
    assert load_pipeline(folder, torch.bfloat16) == (folder, torch.bfloat16)


def test_a_part_that_was_left_out_stays_out(tmp_path):
    """Stable Diffusion 3 without T5, which diffusers loads only if it is told so."""
    pipeline = sd3(tmp_path)
    pipeline.register_modules(text_encoder_3=None, tokenizer_3=None)
    pipeline.save_pretrained(tmp_path / "without")
    index = json.loads((tmp_path / "without" / "model_index.json").read_text())
    assert absent_parts(index) == {"text_encoder_3": None, "tokenizer_3": None}
    assert load_pipeline(str(tmp_path / "without"), torch.float32).text_encoder_3 is None


def test_no_such_model(tmp_path):
    with pytest.raises(OSError, match="model_index.json"):
        load_pipeline(str(tmp_path), torch.float32)
