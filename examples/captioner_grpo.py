"""A captioner learns from the HyperAlign reward, with TRL's own GRPOTrainer: `python examples/captioner_grpo.py`.

The captioner is the built-in tiny LLaVA after noise was added to its language model's weights, so that it tells little
of what it sees. What is trained on is the reward alone; what is reported is fact recall, the share of a held-out
scene's facts that a caption tells, which no reward looks at. `--shuffled` gives each caption another one's reward: the
control, which must not help.
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Image, Value
from torchvision.transforms.functional import to_pil_image
from trl import GRPOConfig, GRPOTrainer

from attention_refine.vlm.loading import load_model
from reward import HyperAlignReward
from reward.files.writing import write_text
from reward.trl_adapters import grpo_reward
from rl.monitoring.bootstrap import bootstrap_interval
from tinyworld import weights_path
from tinyworld.models.llava_batches import sample_scenes
from tinyworld.models.llava_measure import answers, facts_told
from tinyworld.questions import CAPTION_QUESTION, caption
from tinyworld.scenes import parse_prompt


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    model, processor = load_model(str(weights_path("llava")), device="cpu")
    add_noise(model, arguments.noise, arguments.seed)
    before = fact_recall(model, processor, arguments.scenes)

    score = grpo_reward(HyperAlignReward.from_pretrained(weights_path("hyperalign")))
    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=shuffled(score, arguments.seed) if arguments.shuffled else score,
        train_dataset=training_scenes(arguments.steps * 8, arguments.seed),
        args=GRPOConfig(
            output_dir=str(arguments.output / "trl"), max_steps=arguments.steps, seed=arguments.seed,
            per_device_train_batch_size=64, num_generations=8, max_completion_length=12,
            learning_rate=arguments.learning_rate, lr_scheduler_type="linear", temperature=1.0,
            gradient_checkpointing=False, bf16=False, use_cpu=True, save_strategy="no", logging_steps=10,
            report_to="none",
        ),
    )  # fmt: skip
    trainer.train()

    model.eval()
    after = fact_recall(model, processor, arguments.scenes)
    summary = compared(before, after)
    summary |= {"steps": arguments.steps, "seed": arguments.seed, "shuffled": arguments.shuffled}
    summary["reward"] = [round(row["reward"], 4) for row in trainer.state.log_history if "reward" in row]
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output / "summary.json", json.dumps(summary, indent=2) + "\n")
    low, high = summary["gain_ci"]
    print(
        f"fact recall on {arguments.scenes} held-out scenes: {summary['before']:.3f} before, {summary['after']:.3f} "
        f"after; gain {summary['gain']:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/captioner"), help="folder for summary.json")
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps, of 8 pictures with 8 captions each")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--noise", type=float, default=1.1, help="in standard deviations of each weight matrix")
    parser.add_argument("--scenes", type=int, default=256, help="held-out scenes to measure on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shuffled", action="store_true", help="the control: rewards in random order")
    return parser.parse_args()


def add_noise(model: Any, amount: float, seed: int) -> None:
    """Unlearn: Gaussian noise on the language model's matrices, its embeddings excepted."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "language_model" in name and "embed" not in name and weight.ndim == 2:
            noise = torch.randn(weight.shape, generator=generator)
            weight.data += amount * weight.data.std() * noise


def training_scenes(count: int, seed: int) -> Dataset:
    """Rows of a conversational prompt and its picture, scenes of the training split."""
    scenes = sample_scenes(np.random.default_rng((seed, 2)), count, free=0)
    prompt = [{"role": "user", "content": CAPTION_QUESTION}]
    rows = {"prompt": [prompt] * count, "image": [to_pil_image(picture) for picture in scenes.pictures]}
    messages = [{"role": Value("string"), "content": Value("string")}]
    return Dataset.from_dict(rows, features=Features({"prompt": messages, "image": Image()}))


def shuffled(score: Callable[..., list[float]], seed: int) -> Callable[..., list[float]]:
    """The same rewards, each given to a random caption of the batch."""
    order = random.Random(seed)

    def shuffled_reward(**columns: Any) -> list[float]:
        scores = score(**columns)
        return order.sample(scores, len(scores))

    return shuffled_reward


@torch.no_grad()
def fact_recall(model: Any, processor: Any, count: int) -> list[list[bool]]:
    """For each of the held-out scenes, the same in every run, which of its facts the greedy caption tells."""
    scenes = sample_scenes(np.random.default_rng((1234, 3)), count, held_out=True, free=0)
    # two kinds that stand neither beside nor above each other have no caption
    kept = [index for index, objects in enumerate(scenes.objects) if caption(objects) is not None]
    truths = [parse_prompt(caption(scenes.objects[index])) for index in kept]
    told = answers(model, processor, scenes.pictures[kept], [CAPTION_QUESTION] * len(kept))
    return [sum(facts_told(text, truth).values(), []) for text, truth in zip(told, truths, strict=True)]


def compared(before: list[list[bool]], after: list[list[bool]]) -> dict[str, Any]:
    """Fact recall before and after, and the gain with its interval over scenes."""
    gains = [float(b) - float(a) for old, new in zip(before, after, strict=True) for a, b in zip(old, new, strict=True)]
    scenes = [str(index) for index, facts in enumerate(before) for _ in facts]
    mean = [float(np.mean([fact for facts in told for fact in facts])) for told in (before, after)]
    interval = bootstrap_interval(np.array(gains), scenes)
    return {"before": mean[0], "after": mean[1], "gain": mean[1] - mean[0], "gain_ci": interval}


if __name__ == "__main__":
    main()
