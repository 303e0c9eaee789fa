"""Ablation of HyperAlign in the tiny world, on held-out prompts with exact truth.

python -m benchmarks.tinyworld_evaluator.run
python -m benchmarks.tinyworld_evaluator.tables --write

All rows use the same towers, 8,000 training pairs (seen prompts, noisy scores) and 800 validation pairs. The 2,000 test
pairs have held-out prompts and the exact share of facts that hold as score. Intervals are by bootstrap over prompts, of
the mean over training seeds; gaps are paired. The features are not saved; computing them takes two minutes.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from benchmarks.results_file import write_rows
from reward import HyperAlign
from reward.backbone.towers import Backbone
from reward.cli.flags import ArgumentParser
from reward.statistics.correlations import bootstrap_draws, interval, spearmans
from reward.training.recipe import load_training_config
from reward.training.train import fit_head
from tinyworld import weights_path
from tinyworld.models.hyperalign_head import features, rated_pairs
from tinyworld.scenes import Prompt, all_prompts

HERE = Path(__file__).resolve().parent
RESULTS, WIDTHS = HERE / "results.csv", HERE / "cone_widths.csv"
RESULT_COLUMNS = (
    "row", "seeds", "spearman", "low", "high", "lowest_seed", "gap_to_full", "gap_low", "gap_high", "seconds",
)  # fmt: skip
WIDTH_COLUMNS = (
    "row", "seed", "drops", "pairs", "share_wider", "low", "high", "share_equal", "mean_wider_by", "std_aperture",
)  # fmt: skip
# The settings of the shipped head (tinyworld/models/hyperalign_head.py); no row of the ablation changes them.
RECIPE = {"model.text_radius": 0.6, "model.radius_spread": 0.5}
LEARNED = {"model.radius": "learned"}
ROWS: dict[str, tuple[str, dict]] = {
    "cosine only": ("cosine_only", {}),
    "+ adapter": ("adapter", {}),
    "+ modulation by the cosine": ("modulation_cosine", {}),
    "+ geometry": ("geometry", {}),
    "+ geometry, learned radius": ("geometry", LEARNED),
    "+ static cone": ("static_cone", {}),
    "+ entailment, paper": ("entail_paper", {}),
    "+ entailment, weighted": ("entail_weighted", {}),
    "full (two-sided)": ("entail_two_sided", {}),
    "full, learned radius": ("entail_two_sided", LEARNED),
}
PLAIN = "plain cosine of the towers"
FULL = "full (two-sided)"
GEOMETRIC = [name for name, (file, _) in ROWS.items() if file not in ("cosine_only", "adapter", "modulation_cosine")]


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings per row")
    parser.add_argument("--train", type=int, default=8_000)
    parser.add_argument("--test", type=int, default=2_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = Backbone(f"local-dir:{weights_path('open-clip')}", None)
    vae = AutoencoderKL.from_pretrained(weights_path("stable-diffusion"), subfolder="vae").eval()
    train = features(backbone, *rated_pairs(vae, 101, arguments.train))
    val = features(backbone, *rated_pairs(vae, 102, arguments.train // 10))
    pictures, prompts, truth = rated_pairs(vae, 103, arguments.test, held_out=True, noise=0.0)
    image, text, truth = features(backbone, pictures, prompts, truth)
    predicted = {PLAIN: torch.cosine_similarity(image, text, dim=-1).numpy()[:, None]}
    seconds, widths = {PLAIN: 0.0}, []
    for name, (file, changes) in ROWS.items():
        config = load_training_config(
            HERE.parents[1] / "configs" / f"hyperalign_{file}.yaml",
            RECIPE | changes,
        )
        model = dataclasses.replace(config.model, embed_dim=backbone.embed_dim)
        columns, started = [], time.perf_counter()
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            head = HyperAlign(model)
            fit_head(head, *train, val=val, epochs=20, batch_size=256, lr=2e-3, seed=seed, progress=False)
            with torch.no_grad():
                columns.append(head(image, text).score.numpy())
            if name in GEOMETRIC:
                widths += ({"row": name, "seed": seed} | row for row in nested_widths(head, backbone))
        seconds[name] = (time.perf_counter() - started) / arguments.seeds
        predicted[name] = np.stack(columns, 1)
        print(name, spearmans(predicted[name], truth.numpy()).round(4), f"{seconds[name]:.1f} s", flush=True)
    write_rows(RESULTS, RESULT_COLUMNS, compare(predicted, truth.numpy(), prompts, seconds))
    write_rows(WIDTHS, WIDTH_COLUMNS, widths)


def compare(predicted: dict, truth: np.ndarray, prompts: list[str], seconds: dict) -> Iterator[dict]:
    """One row per scorer: Spearman over its training seeds, and the full model's paired gap over it."""

    def means(*arrays: np.ndarray) -> np.ndarray:
        *scores, human = arrays
        return np.array([spearmans(score, human).mean() for score in scores])

    names = list(predicted)
    columns = [predicted[name] for name in names]
    found = means(*columns, truth)
    draws = bootstrap_draws(means, prompts, *columns, truth, samples=1000)
    full = names.index(FULL)
    for i, name in enumerate(names):
        low, high = interval(draws[:, i])
        row = {"row": name, "seeds": columns[i].shape[1], "spearman": float(found[i]), "low": low, "high": high}
        row |= {"lowest_seed": float(spearmans(columns[i], truth).min()), "seconds": float(seconds[name])}
        if i != full:
            gap_low, gap_high = interval(draws[:, full] - draws[:, i])
            row |= {"gap_to_full": float(found[full] - found[i]), "gap_low": gap_low, "gap_high": gap_high}
        yield row


def nested_widths(head: HyperAlign, backbone: Backbone) -> Iterator[dict]:
    """If a prompt B implies a shorter prompt A, is A's cone wider? One row per kind of shortening.

    The interval resamples the longer prompts.
    """
    pairs = nested_pairs()
    texts = sorted({text for kind in pairs.values() for pair in kind for text in pair})
    with torch.no_grad():
        encoded = torch.cat([backbone.encode_prompts(texts[i : i + 500]) for i in range(0, len(texts), 500)])
        aperture = head(torch.zeros_like(encoded) + encoded.flip(0), encoded).half_aperture.numpy().ravel()
    width = dict(zip(texts, aperture, strict=True))
    for kind, found in pairs.items():
        longer = [long for long, _ in found]
        gains = np.array([width[short] - width[long] for long, short in found])
        low, high = interval(bootstrap_draws(lambda gain: float((gain > 0).mean()), longer, gains, samples=500))
        # at the bound of pi/2 all cones are equally wide
        yield {
            "drops": kind, "pairs": len(found), "share_wider": float((gains > 0).mean()), "low": low, "high": high,
            "share_equal": float((gains == 0).mean()), "mean_wider_by": float(gains.mean()),
            "std_aperture": float(aperture.std()),
        }  # fmt: skip


def nested_pairs() -> dict[str, list[tuple[str, str]]]:
    """(longer, shorter) prompts by what is left out. Every picture of the longer prompt also shows the shorter one."""
    pairs: dict[str, list[tuple[str, str]]] = {"relation": [], "object": [], "number": []}
    for prompt in all_prompts():
        if prompt.relation:
            pairs["relation"].append((prompt.text, Prompt(prompt.first, second=prompt.second).text))
        if prompt.second:
            pairs["object"] += [(prompt.text, Prompt(kind).text) for kind in (prompt.first, prompt.second)]
        if prompt.count == 2:
            pairs["number"].append((prompt.text, Prompt(prompt.first).text))
    return pairs


if __name__ == "__main__":
    main()
