"""The whole pretraining, made absurdly short: the stages fit together, and what they leave loads."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline

from reward import HyperAlignReward
from tinyworld import pretrain
from tinyworld.models import flow, stable_diffusion
from tinyworld.models.flow import load_flow_pipeline
from tinyworld.models.provenance import _write_section
from tinyworld.pretrain import STAGES, Pretraining

SHORT = {
    "STEPS": dict.fromkeys(pretrain.STEPS, 2),
    "GUIDANCES": (1.0,),
    "FLOW_GUIDANCES": (1.0,),
    "_POOL": 500,
    "_RATED": 40,
    "_RATED_SCENES": 60,
    "_MEASURED": 40,
    "_ASKED": 8,
}
PROMPTS = dict.fromkeys(("heldout_prompts", "train_prompts"), lambda: ["a red ring", "a blue square"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pretrain")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SHORT.items():
            patch.setattr(pretrain, name, value)
        for module in (pretrain, stable_diffusion, flow):  # a stage that trains a generator also measures it
            for name, value in PROMPTS.items():
                patch.setattr(module, name, value)
        Pretraining(root, root / "weights").run(list(STAGES))
    return root


def test_every_stage_is_done_and_its_models_load(folders):
    assert {path.stem for path in folders.glob("*.done")} == set(STAGES)
    reward = HyperAlignReward.from_pretrained(folders / "weights" / "hyperalign")
    pipeline = StableDiffusionPipeline.from_pretrained(folders / "weights" / "stable-diffusion")
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a red ring", num_inference_steps=1, output_type="pt").images
    assert torch.isfinite(reward(picture, "a red ring")).all()
    assert load_flow_pipeline(folders / "weights" / "flow").text_encoder_3 is None


def test_provenance_tells_minutes_and_measurements(folders):
    text = (folders / "weights" / "PROVENANCE.md").read_text()
    for part in ("python -m tinyworld.pretrain", "| ratings |", "| held_out, generated |", "| 1.0 |", "| flow | 2 |"):
        assert part in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Where these weights come from", "## The tiny LLaVA", "## The tiny flow-matching model",
    ]  # fmt: skip
    assert str(folders) not in text


def test_a_section_is_replaced_and_the_others_stay(tmp_path):
    page = tmp_path / "PROVENANCE.md"
    for title, line in (("", "start"), ("One", "a"), ("Two", "b"), ("One", "c"), ("", "again")):
        _write_section(page, title, [line, ""])
    assert page.read_text() == "again\n\n## One\n\nc\n\n## Two\n\nb\n"


def test_what_is_done_is_not_done_again(folders, capsys):
    before = json.loads((folders / "notes.json").read_text())
    Pretraining(folders, folders / "weights").run(list(STAGES))
    assert capsys.readouterr().out.count("already done") == len(STAGES)
    assert json.loads((folders / "notes.json").read_text()) == before
