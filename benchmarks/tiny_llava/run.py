"""Measure the shipped tiny LLaVA on new scenes of both splits and on pictures of the tiny Stable Diffusion.

python benchmarks/tiny_llava/run.py

For generated pictures the oracle gives the truth. Pictures in which it does not find one or two objects have no caption
to compare with. "blind": the same questions about another picture of the same sort.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from scipy.stats import binomtest
from transformers import AutoProcessor, LlavaForConditionalGeneration

# Python puts a script's own folder on the path. The packages are in the repository's root.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import write_rows  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.generated import generated_pairs  # noqa: E402
from tinyworld.models.llava_batches import sample_scenes  # noqa: E402
from tinyworld.models.llava_measure import measure_answers, measure_captions  # noqa: E402
from tinyworld.oracle import read_scene  # noqa: E402
from tinyworld.questions import YES_NO_KINDS  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("pictures", "what", "count", "right", "low", "high", "blind", "chance")


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="scenes, and questions of each kind")
    parser.add_argument("--generated", type=int, default=200, help="generated pictures")
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = weights_path("llava")
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    rows = []
    for name, pictures, objects in sorts(arguments.count, arguments.generated, arguments.seed):
        for row in measure(model, processor, pictures, objects, min(arguments.count, len(pictures)), arguments.seed):
            rows.append({"pictures": name} | row)
            print(*(f"{v:.3f}" if isinstance(v, float) else v for v in rows[-1].values()), sep="  ", flush=True)
        write_rows(RESULTS, COLUMNS, rows)


def sorts(count: int, generated: int, seed: int) -> Iterator[tuple[str, torch.Tensor, list]]:
    """(name, pictures, their objects). The objects are exact for scenes, and the oracle's for generated pictures."""
    for name, held_out in (("held-out scenes", True), ("seen scenes", False)):
        scenes = sample_scenes(np.random.default_rng((seed, held_out)), count, held_out, free=0)
        yield name, scenes.pictures, scenes.objects
    if generated:
        pipeline = StableDiffusionPipeline.from_pretrained(
            weights_path("stable-diffusion"), safety_checker=None, dtype=torch.float32
        )
        pictures = generated_pairs(pipeline, generated, seed, held_out=True)[0]
        yield (
            "generated, held-out prompts",
            pictures,
            [read_scene(picture) for picture in pictures.permute(0, 2, 3, 1).numpy()],
        )


def measure(model, processor, pictures, objects, count: int, seed: int) -> Iterator[dict]:
    """One row per kind of fact in captions and per kind of question."""
    told = measure_captions(model, processor, pictures, objects)
    facts = told["object"] + told["count"] + told["relation"]
    yield {"what": "caption: facts told"} | share(facts)
    for kind in ("object", "count", "relation"):
        if told[kind]:
            yield {"what": f"caption: {kind} told"} | share(told[kind])
    yield {"what": "caption: entirely right"} | share(told["whole"])
    asked = measure_answers(model, processor, pictures, objects, count, seed)
    for kind, found in asked.items():
        if found["right"]:
            usual = max(map(found["answers"].count, found["answers"])) / len(found["answers"])
            extra = {"blind": float(np.mean(found["blind"])), "chance": usual}
            yield {"what": f"question: {kind}"} | share(found["right"]) | extra
    both = [hit for kind in YES_NO_KINDS for hit in asked[kind]["right"]]
    yield {"what": "question: all yes/no"} | share(both) | {"chance": 0.5}


def share(hits: list[bool]) -> dict:
    """Share of hits with its 95 % Wilson interval."""
    interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return {"count": len(hits), "right": sum(hits) / len(hits), "low": interval.low, "high": interval.high}


if __name__ == "__main__":
    main()
