"""Every snippet of docs/other-trainers.md, run against what the trainer that it is for sends or calls.

The clients here are written from the contracts: what each peer's own client puts on the wire and reads from it.
"""

import asyncio
import base64
import io
import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
import yaml
from PIL import Image

from reward import HyperAlignReward
from tests.reward.serving.conftest import encoded, running
from tinyworld import weights_path
from tinyworld.models.llava_batches import sample_scenes

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "other-trainers.md").read_text(encoding="utf-8")
PROMPTS = ["a red ring left of a blue square", "two yellow rings", "a blue ring", "a green triangle"]


@pytest.fixture(scope="module")
def tiny():
    return HyperAlignReward.from_pretrained(weights_path("hyperalign"))


@pytest.fixture(scope="module")
def pictures():
    return sample_scenes(np.random.default_rng(0), 4, free=0).pictures


@pytest.fixture(scope="module")
def server(tiny):
    with running(tiny) as url:
        yield url


def section(title):
    return re.split(r"^## ", PAGE, flags=re.M)[[*re.findall(r"^## (.*)", PAGE, flags=re.M)].index(title) + 1]


def blocks(title, language):
    return re.findall(rf"```{language}\n(.*?)```", section(title), flags=re.S)


def run(title, url="", **names):
    """The names that the section's Python leaves, with the address and the folder put in."""
    for block in blocks(title, "python"):
        block = block.replace("http://127.0.0.1:8000", url).replace("FOLDER_OR_HUB_ID", str(weights_path("hyperalign")))
        exec(compile(block, f"docs/other-trainers.md: {title}", "exec"), names)
    return names


def of_files(tiny, pictures, prompts, kind, **options):
    return tiny([Image.open(io.BytesIO(encoded(p, kind, **options))) for p in pictures], prompts).tolist()


def test_every_block_is_run():
    titles = re.findall(r"^## (.*)", PAGE, flags=re.M)
    assert titles == ["Flow-Factory", "flow_grpo", "VeRL-Omni", "TRL 1.x", "A diffusers callback", "Our own trainers"]
    assert [len(blocks(title, "python")) for title in titles] == [0, 2, 0, 2, 2, 0]


def test_flow_factory(tiny, pictures, server):
    (reward,) = yaml.safe_load(blocks("Flow-Factory", "yaml")[0])["rewards"]
    assert reward["reward_model"].startswith("flow_factory.rewards.") and reward["server_url"] == "http://127.0.0.1:8000"
    assert requests.get(f"{server}/health", timeout=5).ok
    arrays = (pictures.permute(0, 2, 3, 1).numpy() * 255).astype("uint8")
    texts = [base64.b64encode(encoded(Image.fromarray(array))).decode() for array in arrays]
    unused = dict.fromkeys(["video", "condition_images", "condition_videos", "kwargs"])
    payload = {"prompt": PROMPTS, "image": texts} | unused
    answer = requests.post(f"{server}/compute", json=payload, timeout=60).json()
    assert not answer.get("error")
    assert answer["rewards"] == pytest.approx(tiny([Image.fromarray(a) for a in arrays], PROMPTS).tolist(), abs=1e-5)


def test_flow_grpo(tiny, pictures, server):
    functions = run("flow_grpo", server)
    local, _ = functions["hyperalign_score"]("cpu")(pictures, tuple(PROMPTS), ({},) * 4)
    assert local == pytest.approx(tiny(pictures, PROMPTS).tolist()) and type(local) is list
    remote, _ = functions["hyperalign_score_remote"]("cpu")(pictures, tuple(PROMPTS), ({},) * 4)
    rounded = (pictures * 255).round().byte()
    assert remote == pytest.approx(of_files(tiny, rounded, PROMPTS, "JPEG", quality=95), abs=1e-5)
    # what multi_score does with them
    assert [2 * score for score in remote] and len(remote) == 4


def test_flow_grpos_client_with_a_numpy_array_is_told_what_to_send(pictures, server):
    files = [encoded(picture, "JPEG") for picture in pictures]
    for prompts, status in ((np.array(PROMPTS), 400), (np.array(PROMPTS).tolist(), 200)):
        answer = requests.post(server, data=pickle.dumps({"images": files, "prompts": prompts}), timeout=60)
        assert answer.status_code == status
        assert "tolist()" in answer.text or len(pickle.loads(answer.content)["outputs"]) == 4


def test_verl_omni(tiny, pictures, server):
    words = shlex.split(blocks("VeRL-Omni", "text")[0].replace("\\\n", " "))
    values = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    assert values["reward.reward_functions.hyperalign.server_url"] == "http://127.0.0.1:8000"
    assert values["reward.reward_functions.hyperalign.name"] == "compute_score"

    def compute_score(picture, prompt):
        body = pickle.dumps({"images": [encoded(picture, "JPEG")], "prompts": [prompt], "metadata": {}})
        answer = pickle.loads(requests.post(server, data=body, timeout=60).content)
        assert "error" not in answer
        return float(answer["scores"][0])

    async def all_at_once():
        pairs = zip(pictures, PROMPTS, strict=True)
        return await asyncio.gather(*(asyncio.to_thread(compute_score, *pair) for pair in pairs))

    scores = asyncio.run(all_at_once())
    assert scores == pytest.approx(of_files(tiny, pictures, PROMPTS, "JPEG"), abs=1e-5)


def test_trl(pictures, tmp_path):
    trl = pytest.importorskip("trl", minversion="1.0")
    from datasets import Dataset
    from torchvision.transforms.functional import to_pil_image

    from attention_refine.vlm.loading import load_model

    functions = run("TRL 1.x")
    model, processor = load_model(str(weights_path("llava")), device="cpu")
    prompt = [{"role": "user", "content": "Describe the picture."}]
    dataset = Dataset.from_dict({"prompt": [prompt] * 4, "image": [to_pil_image(picture) for picture in pictures]})
    args = trl.GRPOConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4, num_generations=2,
        max_completion_length=8, bf16=False, use_cpu=True, save_strategy="no", logging_steps=1, report_to="none",
    )  # fmt: skip
    trainer = functions["captioner_trainer"](model, processor, dataset, args)
    trainer.train()
    assert -1 < trainer.state.log_history[0]["rewards/hyperalign/mean"] < 2
    for judge in functions["judges"](model.eval(), processor):
        scores = judge(prompts=[prompt] * 4, completions=PROMPTS, completion_ids=[[1]] * 4, image=list(pictures))
        assert len(scores) == 4 and all(0 <= score <= 1 for score in scores)


def test_a_diffusers_callback(tiny):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(weights_path("stable-diffusion"))
    pipe.set_progress_bar_config(disable=True)
    torch.manual_seed(0)
    pictures, scores = run("A diffusers callback")["generate_and_watch"](pipe, tiny, "a red ring")
    assert len(scores) == 10 and scores[-1] == pytest.approx(tiny(pictures, "a red ring").item(), abs=0.02)
    assert scores[-1] > scores[0], "the last step's picture shows more than the first one's noise"
