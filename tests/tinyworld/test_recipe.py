"""The packaged recipes, made short: from the entry script to the run folder that they leave."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from rl import ddpo_train, direct_train, nft_train
from rl.packaged import packaged_recipe

SHORT = (
    "--num_epochs 2 --sample_batch_size 8 --sample_num_batches_per_epoch 1 --train_gradient_accumulation_steps 1 "
    "--eval_num_prompts 8 --eval_guidance_scales 1.0 2.0 --num_threads 1 --log_with none"
).split()
RULES = {
    "direct": (direct_train.main, SHORT),
    "ddpo": (ddpo_train.main, [*SHORT, "--sample_group_size", "4", "--train_batch_size", "8"]),
}


@pytest.fixture(scope="module", params=RULES)
def rule(request):
    return RULES[request.param]


@pytest.fixture(scope="module")
def run(rule, tmp_path_factory):
    main, short = rule
    folder = tmp_path_factory.mktemp("demo") / "run"
    main(["--output_dir", str(folder), *short])
    return folder


def test_the_run_folder_is_whole(run):
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml", "metrics.csv", "checkpoints", "samples", "report.html", "summary.json", "evaluation.json",
        "pytorch_lora_weights.safetensors",
    }  # fmt: skip
    with safe_open(run / "pytorch_lora_weights.safetensors", framework="pt") as file:
        keys = list(file.keys())
    assert keys and all(key.startswith("unet.") and "lora" in key for key in keys)


def test_the_summary_has_what_the_demo_prints(run):
    summary = json.loads((run / "summary.json").read_text())
    for key in ("reward_base", "reward_lora", "oracle_base", "oracle_lora", "oracle_gain", "seconds"):
        assert isinstance(summary[key], float), key
    low, high = summary["oracle_gain_ci"]
    assert low <= summary["oracle_gain"] <= high
    assert summary["n_prompts"] == 8 and summary["guidance_base"] in (1.0, 2.0)


def test_the_same_seed_gives_the_same_run(rule, run, tmp_path):
    main, short = rule
    main(["--output_dir", str(tmp_path / "again"), *short])
    # Tensors, not bytes: safetensors writes its header's entries in no fixed order.
    first, second = (load_file(folder / "pytorch_lora_weights.safetensors") for folder in (run, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "entry"), [("flow_ddpo", ddpo_train.main), ("flow_nft", nft_train.main)])
def test_the_flow_matching_recipes_train_the_transformer(name, entry, tmp_path):
    folder = tmp_path / "run"
    entry(["--config", str(packaged_recipe(f"{name}.yaml")), "--output_dir", str(folder), *RULES["ddpo"][1]])
    with safe_open(folder / "pytorch_lora_weights.safetensors", framework="pt") as file:
        keys = list(file.keys())
    assert keys and all(key.startswith("transformer.") for key in keys)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_prompts"] == 8 and summary["epochs"] == 2
