"""Do two revisions train exactly the same LoRA? Compares short runs of each trainer, pipeline and number of processes.

    python -m benchmarks.same_numbers.run --before 1f656d9 [--after REVISION]

The default of `--after` is the working tree. Both sides use the same tiny pipelines, recipes and reward. Equal means:
the same metrics to the last digit (except times), and the same tensors in the LoRA file.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from reward.cli.flags import ArgumentParser

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results.csv")

REWARD = '''
def redness(images, prompts, metadata):
    return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2)), {}


def brightness(images, prompts, metadata):
    return images.mean((1, 2, 3)), {}
'''
SHARED = {
    "prompts": "prompts.txt", "rewards": ["same_numbers_reward:redness=1.0", "same_numbers_reward:brightness=0.3"],
    "eval_rewards": ["same_numbers_reward:brightness=1.0"], "num_epochs": 3, "save_freq": 2, "log_with": None,
    "sample_num_steps": 4, "sample_guidance_scale": 2.0, "sample_batch_size": 2, "sample_num_batches_per_epoch": 2,
    "sample_group_size": 2, "train_learning_rate": 1e-3, "train_kl_weight": 0.1, "lora_rank": 4, "lora_alpha": 8.0,
    "ema_decay": 0.9, "eval_freq": 2, "eval_freq_num_prompts": 2, "eval_at_end": True, "eval_num_prompts": 4,
    "eval_guidance_scales": [1.0, 2.0], "eval_lora_scales": [0.5],
}  # fmt: skip
DDPO = {"train_batch_size": 2, "train_step_window": [0.0, 0.75], "train_hold_weight": 0.5, "train_steps_per_pass": 2}
CASES = {
    "ddpo": ("ddpo_train.py", DDPO),
    "ddpo-unguided": ("ddpo_train.py", {"train_batch_size": 1, "train_cfg": False, "train_num_inner_epochs": 2,
                                        "train_step_weighting": "output"}),
    "draft": ("direct_train.py", {"method": "draft", "backprop_steps": 2}),
    "refl": ("direct_train.py", {"method": "refl", "train_step_checkpointing": False}),
    "draft-lv": ("direct_train.py", {"method": "draft-lv"}),
}  # fmt: skip
# Earlier names of columns of metrics.csv.
RENAMED = {"unet_evaluations": "denoiser_evaluations"}
# Short runs of the packaged recipes, with HyperAlign as the reward.
RECIPES = {"demo-ddpo": "ddpo_train.py", "demo-direct": "direct_train.py"}


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="revision, e.g. 1f656d9")
    parser.add_argument("--after", help="revision; default: the working tree")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch, _tree(arguments.before) as before, _tree(arguments.after) as after:
        scratch = Path(scratch)
        build_pipelines(scratch)
        for name, script, values, processes in runs(scratch):
            found = [
                train(tree, script, scratch / f"{name}-{processes}-{side}", values, processes, scratch)
                for side, tree in (("before", before), ("after", after))
            ]
            rows.append({"run": name, "processes": processes, **compare(*found)})
            print(rows[-1], flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if not all(row["same_metrics"] and row["same_lora"] for row in rows):
        sys.exit("The two revisions do not train the same.")


def runs(scratch: Path):
    """(name, script, config, processes) of every run."""
    for processes in (1, 2):
        for pipeline in ("sd", "sdxl"):
            for name, (script, own) in CASES.items():
                yield f"{name}-{pipeline}", script, SHARED | own | {"model": str(scratch / pipeline)}, processes
        for name, script in RECIPES.items():
            yield name, script, {"num_epochs": 2, "max_train_seconds": 0.0, "eval_num_prompts": 8}, processes


def build_pipelines(scratch: Path) -> None:
    """Tiny random pipelines of the real classes, prompts and rewards."""
    from tests.conftest import build_tiny_pipeline, build_tiny_sdxl_pipeline

    build_tiny_pipeline(scratch / "letters").save_pretrained(scratch / "sd")
    build_tiny_sdxl_pipeline(scratch / "letters-xl").save_pretrained(scratch / "sdxl")
    (scratch / "same_numbers_reward.py").write_text(REWARD)
    (scratch / "prompts.txt").write_text("a red circle\na blue square\ntwo green rings\na ring above a square\n")


def train(tree: Path, script: str, run: Path, values: dict, processes: int, scratch: Path) -> Path:
    """Train in a checkout; returns the run folder."""
    arguments = ["--output_dir", str(run)]
    if "model" in values:
        recipe = run.with_suffix(".yaml")
        recipe.write_text(yaml.safe_dump(values | {"prompts": str(scratch / values["prompts"])}))
        arguments += ["--config", str(recipe)]
    else:
        arguments += [word for name, value in values.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tree), str(scratch)]), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes), "--cpu"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    launch += ["--num_cpu_threads_per_process", "1", f"rl/{script}", *arguments]
    done = subprocess.run(launch, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(launch)} in {tree} failed:\n{done.stderr[-3000:]}")
    return run


def compare(before: Path, after: Path) -> dict[str, object]:
    """Whether metrics and LoRA are the same, and how many numbers were compared."""
    one, two = (_metrics(run) for run in (before, after))
    name = "pytorch_lora_weights.safetensors"
    first, second = load_file(before / name), load_file(after / name)
    same = first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    return {
        "same_metrics": one == two,
        "same_lora": same,
        "metrics": sum(map(len, one)),
        "lora_parameters": sum(tensor.numel() for tensor in first.values()),
    }


def _metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [
            {RENAMED.get(name, name): value for name, value in row.items() if not name.startswith("seconds")}
            for row in csv.DictReader(file)
        ]


@contextmanager
def _tree(revision: str | None):
    if revision is None:
        yield ROOT
        return
    folder = Path(tempfile.mkdtemp()) / "tree"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), revision], cwd=ROOT, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True)
        shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
