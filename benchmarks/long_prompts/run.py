"""What becomes of a prompt three contexts long: cut, or scored in portions and pooled in one of six ways? Tiny world.

python benchmarks/long_prompts/run.py

Held-out scenes with right, partly right and wrong prompts; the oracle's share of facts is the truth. `one place`: the
prompt stands among sentences on other matters. `spread`: each of its facts is a sentence, with another one among
them. Intervals are over prompts, by bootstrap. results.csv is overwritten.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

# A script's own folder comes first on the path, not the one that holds the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import write_rows  # noqa: E402
from reward import HyperAlignReward  # noqa: E402
from reward.cli.flags import ArgumentParser  # noqa: E402
from reward.language.portions import portions  # noqa: E402
from reward.model.pooling import TEMPERATURE  # noqa: E402
from reward.statistics.correlations import bootstrap_draws, interval, spearmans  # noqa: E402
from tinyworld import weights_path  # noqa: E402
from tinyworld.models.hyperalign_head import rated_pairs  # noqa: E402
from tinyworld.oracle import prompt_facts  # noqa: E402
from tinyworld.scenes import parse_prompt  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
COLUMNS = ("facts", "way", "prompts", "tokens", "spearman", "low", "high", "above_cut", "above_low", "above_high")
CHOSEN = "softmax-weighted scores (pool)"
OTHER_MATTERS = (
    "The sky over the old harbour was bright that morning.", "Nobody had expected the letter to arrive so soon.",
    "He walked home and thought about the summer.", "There is nothing else to say about it.",
    "She opened the window and listened to the rain.", "It was one of those long evenings in March.",
)  # fmt: skip
WAYS: dict[str, Callable[[torch.Tensor, torch.Tensor, Callable], torch.Tensor]] = {
    "mean of features": lambda text, scores, score: score(text.mean(0)),
    "norm-weighted features": lambda text, scores, score: score((text.norm(dim=-1)[:, None] * text).mean(0)),
    "mean of scores": lambda text, scores, score: scores.mean(),
    "worst score": lambda text, scores, score: scores.min(),
    "best score": lambda text, scores, score: scores.max(),
    CHOSEN: lambda text, scores, score: ((scores / TEMPERATURE).softmax(0) * scores).sum(),
}


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--model", default=str(weights_path("hyperalign")))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reward = HyperAlignReward.from_pretrained(arguments.model)
    vae = AutoencoderKL.from_pretrained(weights_path("stable-diffusion"), subfolder="vae").eval()
    pictures, prompts, truth = rated_pairs(vae, 7, arguments.pairs, held_out=True, noise=0.0)
    with torch.no_grad():
        images = torch.cat([reward.backbone.encode_images(part) for part in pictures.split(200)])
    rows = [row for facts in ("one place", "spread") for row in measure(reward, images, prompts, truth.numpy(), facts)]
    write_rows(RESULTS, COLUMNS, rows)
    for row in rows:
        print(*(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()), sep="  ")


@torch.no_grad()
def measure(
    reward: HyperAlignReward, images: torch.Tensor, prompts: list[str], truth: np.ndarray, facts: str
) -> Iterator[dict]:
    """The rows of one kind of long prompt: short, cut and each way to pool."""
    rng = np.random.default_rng(0)
    length = reward.backbone.tokenizer.length
    found: dict[str, list[float]] = {"short prompt": [], "cut": [], **{way: [] for way in WAYS}}
    tokens = []
    for image, prompt in zip(images, prompts, strict=True):
        told = long_prompt(prompt, facts, rng)
        tokens.append(length(told))

        def score(text: torch.Tensor, image: torch.Tensor = image) -> torch.Tensor:
            text = text.reshape(-1, text.shape[-1])
            return reward.head(image.expand(len(text), -1), text).score

        text = reward.backbone.encode_prompts(portions(told, reward.backbone.tokenizer.fits))
        scores = score(text)
        found["short prompt"].append(score(reward.backbone.encode_prompts([prompt])).item())
        found["cut"].append(score(reward.backbone.encode_prompts([told])).item())
        for way, pool in WAYS.items():
            found[way].append(pool(text, scores, score).item())
    columns = [np.array(values)[:, None] for values in found.values()]

    def correlations(*arrays: np.ndarray) -> np.ndarray:
        *scored, human = arrays
        return np.array([spearmans(each, human)[0] for each in scored])

    values = correlations(*columns, truth)
    draws = bootstrap_draws(correlations, prompts, *columns, truth, samples=500)
    cut = list(found).index("cut")
    for i, way in enumerate(found):
        low, high = interval(draws[:, i])
        row = {"facts": facts, "way": way, "prompts": len(prompts), "tokens": float(np.mean(tokens)),
               "spearman": float(values[i]), "low": low, "high": high}  # fmt: skip
        if i > cut:
            above_low, above_high = interval(draws[:, i] - draws[:, cut])
            row |= {"above_cut": float(values[i] - values[cut]), "above_low": above_low, "above_high": above_high}
        yield row


def long_prompt(prompt: str, facts: str, rng: np.random.Generator) -> str:
    """The prompt or, spread, its facts in random order, among sentences on other matters in random places."""
    sentences = [f"{prompt}."]
    if facts == "spread":
        parsed = parse_prompt(prompt)
        sentences = [f"{fact.text}." for fact in prompt_facts(parsed)] if parsed.second else sentences
    for other in rng.permutation(OTHER_MATTERS)[: 2 if facts == "one place" else 1]:
        sentences.insert(int(rng.integers(0, len(sentences) + 1)), str(other))
    return " ".join(sentences)


if __name__ == "__main__":
    main()
