import json

import pytest
import torch

from rl.models.loading import load_pipeline


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


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline", "StableDiffusionXLImg2ImgPipeline", None])
def test_another_class_is_refused(tmp_path, name):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name} if name else {}))
    expected = "StableDiffusionPipeline or StableDiffusionXLPipeline, got " + (name or "no class")
    with pytest.raises(ValueError, match=f"model: expected a pipeline of class {expected} in"):
        load_pipeline(str(tmp_path), torch.float32)


def test_no_such_model(tmp_path):
    with pytest.raises(OSError, match="model_index.json"):
        load_pipeline(str(tmp_path), torch.float32)
