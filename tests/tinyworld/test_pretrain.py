"""The whole pretraining, made absurdly short: the stages fit together, and what they leave loads."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline

from reward import HyperAlignReward
from tinyworld import pretrain
from tinyworld.pretrain import STAGES, Pretraining

SHORT = {
    "STEPS": dict.fromkeys(pretrain.STEPS, 2),
    "GUIDANCES": (1.0,),
    "_POOL": 500,
    "_RATED": 40,
    "_RATED_SCENES": 60,
    "_MEASURED": 40,
    "_ASKED": 8,
    "heldout_prompts": lambda: ["a red ring", "a blue square"],
    "train_prompts": lambda: ["a red ring", "a blue square"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrain")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SHORT.items():
            patch.setattr(pretrain, name, value)
        Pretraining(root, root / "weights").run(list(STAGES))
    return root


def test_every_stage_is_done_and_its_models_load(folders):
    assert {path.stem for path in folders.glob("*.done")} == set(STAGES)
    reward = HyperAlignReward.from_pretrained(folders / "weights" / "hyperalign")
    pipeline = StableDiffusionPipeline.from_pretrained(folders / "weights" / "stable-diffusion")
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a red ring", num_inference_steps=1, output_type="pt").images
    assert torch.isfinite(reward(picture, "a red ring")).all()


def test_provenance_tells_minutes_and_measurements(folders):
    text = (folders / "weights" / "PROVENANCE.md").read_text()
    for part in ("python -m tinyworld.pretrain", "| ratings |", "| held_out, generated |", "| 1.0 |"):
        assert part in text
    assert str(folders) not in text


def test_what_is_done_is_not_done_again(folders, capsys):
    before = json.loads((folders / "notes.json").read_text())
    Pretraining(folders, folders / "weights").run(list(STAGES))
    assert capsys.readouterr().out.count("already done") == len(STAGES)
    assert json.loads((folders / "notes.json").read_text()) == before
