"""Both trainers on one tiny pipeline: ours here, TRL 0.23.1's in another process. See docs/coming-from-trl.md."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from rl.lora.adapter import add_lora
from rl.models.policy import Trajectory
from rl.models.stable_diffusion import StableDiffusionPolicy

ROOT = Path(__file__).resolve().parents[2]
TRL_TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
GUIDANCE = 3.0
PICTURES = ["a red circle", "a blue square", "two green dots", "a red circle"]
ROUNDS = [
    [["a", "a", "b", "c"], [0.1, 0.9, 0.4, 0.3]],
    [["a", "b", "b", "c"], [0.5, 0.2, 0.8, 0.7]],
    [["b", "a", "a", "a"], [0.6, 0.6, 0.1, 0.2]],
    [["a", "a", "a", "a"], [0.3, 0.3, 0.3, 0.3]],
]


def run_trl(arguments: list[str], *launcher: str) -> subprocess.CompletedProcess:
    """Run `trl_side.py` with TRL 0.23.1 first on the path."""
    path = os.pathsep.join([os.environ["TRL_0_23_1"], str(ROOT)])
    environment = os.environ | {
        "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
        "HYPERALIGN_FOLDER": str(ROOT / "tinyworld" / "weights" / "hyperalign"),
    }  # fmt: skip
    command = [sys.executable, *launcher, str(ROOT / "tests" / "parity" / "trl_side.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="session")
def trl():
    """Skips without TRL 0.23.1; a folder that holds another release is an error."""
    folder = os.environ.get("TRL_0_23_1")
    if not folder:
        pytest.skip("TRL_0_23_1 is not set to a folder with trl 0.23.1 (docs/coming-from-trl.md says how to make one)")
    found = [path.name for path in Path(folder).glob("trl-*.dist-info")]
    if found != ["trl-0.23.1.dist-info"]:
        pytest.fail(f"TRL_0_23_1: expected a folder with trl-0.23.1.dist-info, got {folder} with {found}.")
    return run_trl


@dataclass
class Comparison:
    """What our side gave to theirs, and what came back."""

    policy: StableDiffusionPolicy
    lora: dict[str, torch.nn.Parameter]
    rollout: Trajectory
    stored: dict[str, torch.Tensor]
    folder: Path
    results: dict[str, Any]


@pytest.fixture(scope="session")
def comparison(trl, tiny_pipeline_folder, tmp_path_factory) -> Comparison:
    """One process runs every scenario: starting it costs more than they do."""
    folder = tmp_path_factory.mktemp("exchange")
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_pipeline_folder, safety_checker=None)
    policy = StableDiffusionPolicy(pipeline, num_steps=5)
    add_lora(pipeline.unet, rank=4, alpha=4.0, targets=TRL_TARGETS, seed=0)
    lora = {name: p for name, p in pipeline.unet.named_parameters() if p.requires_grad}
    for number, parameter in enumerate(lora.values()):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    stored = _stored_rollout(policy)
    save_file(stored, folder / "rollout.safetensors")
    save_file({name: p.detach().clone() for name, p in lora.items()}, folder / "lora.safetensors")
    (folder / "statistics.json").write_text(json.dumps(ROUNDS))
    done = trl([str(tiny_pipeline_folder), str(folder)])
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((folder / "results.json").read_text())
    return Comparison(policy, lora, policy.rollout(PICTURES, range(4), GUIDANCE), stored, folder, results)


def _stored_rollout(policy: StableDiffusionPolicy) -> dict[str, torch.Tensor]:
    """A rollout of ours whose log-probs are moved, so that some ratios are clipped on either side and some are not."""
    moved = torch.tensor([3e-4, -3e-4, 5e-5, -5e-5])
    rollouts = {guided: policy.rollout(PICTURES, range(4), GUIDANCE, log_prob_guidance=GUIDANCE if guided else 1.0)
                for guided in (True, False)}
    return {
        "latents": rollouts[True].latents,
        "timesteps": torch.tensor([step.timestep for step in policy.steps]),
        "advantages": torch.tensor([1.5, 0.5, -0.7, -7.0]),  # the last is beyond the advantage clip
        "guided_embeds": policy.conditioning(PICTURES, GUIDANCE).embeddings,
        "embeds": policy.conditioning(PICTURES, 1.0).embeddings,
        **{f"log_probs_{guided}": rollout.log_probs + moved for guided, rollout in rollouts.items()},
    }
